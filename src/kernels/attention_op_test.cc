// qkv_project, attend, mla_project and mla_attend on every backend: against the reference, and the same bits
// whatever the chunking, the batch and the threads.
#include <algorithm>
#include <functional>

#include "kernels/test_support.h"

namespace gantry::kernel_test {
namespace {

class AttentionOps : public testing::TestWithParam<const Backend*> {};
INSTANTIATE_TEST_SUITE_P(Backends, AttentionOps, testing::ValuesIn(every_backend()), backend_name);

// Two sequences; a batch is a list of pieces, each the next rows of one of them.
struct Piece {
  int sequence = 0;
  int rows = 0;
};
using Schedule = std::vector<std::vector<Piece>>;

constexpr int kTokens[2] = {150, 67};

// Every way to come to the same caches: whole prompts, one by one, chunks across block borders, both
// together.
std::vector<Schedule> schedules() {
  std::vector<Schedule> all;
  all.push_back({{{0, 150}}, {{1, 67}}});
  Schedule one_by_one;
  for (int t = 0; t < 150; ++t) {
    one_by_one.push_back({{0, 1}});
    if (t < 67) one_by_one.back().push_back({1, 1});
  }
  all.push_back(one_by_one);
  all.push_back({{{0, 64}, {1, 3}}, {{1, 61}, {0, 64}}, {{1, 3}}, {{0, 22}}});
  all.push_back({{{1, 65}}, {{0, 7}}, {{0, 121}, {1, 1}}, {{1, 1}, {0, 22}}});
  return all;
}

struct Rows {
  std::vector<Segment> segments;
  std::vector<int32_t> positions;
  std::vector<int> sequences;  // of each row
};

Rows rows_of(const std::vector<Piece>& batch, int (&done)[2], const TestKv& kv) {
  Rows rows;
  for (const Piece& piece : batch) {
    rows.segments.push_back({static_cast<int32_t>(rows.positions.size()), piece.rows, done[piece.sequence],
                             kv.table(piece.sequence)});
    for (int i = 0; i < piece.rows; ++i) {
      rows.positions.push_back(done[piece.sequence]++);
      rows.sequences.push_back(piece.sequence);
    }
  }
  return rows;
}

// What a layer writes for each token of each sequence: [tokens, width] each.
struct Outputs {
  Floats q[2], attended[2];
};

void scatter(const Floats& from, const Rows& rows, int64_t width, Floats (&to)[2]) {
  for (size_t r = 0; r < rows.positions.size(); ++r) {
    std::copy_n(from.begin() + static_cast<int64_t>(r) * width, width,
                to[rows.sequences[r]].begin() + rows.positions[r] * width);
  }
}

Floats gather(const Floats (&inputs)[2], const Rows& rows, int64_t width) {
  Floats x;
  for (size_t r = 0; r < rows.positions.size(); ++r) {
    const auto first = inputs[rows.sequences[r]].begin() + rows.positions[r] * width;
    x.insert(x.end(), first, first + width);
  }
  return x;
}

struct GqaShape {
  int heads, kv_heads, dim, rotary;
  DType kv_dtype;
  bool interleaved;
};

class GqaLayer {
 public:
  // Identity weights with unit f32 arithmetic make keys and values exactly the inputs, so that attention is
  // compared alone; random ones compare the projection.
  GqaLayer(Rng& rng, const GqaShape& shape, DType dtype, bool identity)
      : shape_(shape),
        hidden_(identity ? (shape.heads + 2 * shape.kv_heads) * shape.dim : 256),
        weight_(rng, {.parts = parts(shape, dtype, identity),
                      .cols = hidden_,
                      .bias = !identity,
                      .compute = identity ? Compute::kF32 : Compute::kAuto}) {
    if (identity) {
      Floats unit(static_cast<size_t>(hidden_ * hidden_));
      for (int64_t i = 0; i < hidden_; ++i) unit[static_cast<size_t>(i * hidden_ + i)] = 1.0f;
      weight_.set_f32(unit);
    }
    for (int s = 0; s < 2; ++s) x_[s] = rng.normals(kTokens[s] * hidden_);
  }

  Outputs run(const TestContext& context, const Schedule& schedule) {
    Rng rng(99);
    TestKv kv(rng, context.backend(), {shape_.kv_dtype, shape_.kv_heads, shape_.dim, shape_.dim}, 2, 150);
    const PackedWeight* weight = weight_.pack(context.backend());
    const int64_t q_width = int64_t{shape_.heads} * shape_.dim;
    Outputs out;
    for (int s = 0; s < 2; ++s) out.q[s] = out.attended[s] = poisoned(kTokens[s] * q_width);
    int done[2] = {0, 0};
    for (const auto& batch : schedule) {
      const Rows rows = rows_of(batch, done, kv);
      const auto count = static_cast<int64_t>(rows.positions.size());
      const RopeTable rope(rows.positions, shape_.rotary / 2, shape_.interleaved);
      const Floats x = gather(x_, rows, hidden_);
      Floats q = poisoned(count * q_width), attended = q;
      Floats qkv = poisoned(count * (shape_.heads + 2 * shape_.kv_heads) * shape_.dim);
      context.begin({.segments = rows.segments, .rope = rope.rows()});
      ops::qkv_project(*context, {.x = x.data(),
                                  .rows = count,
                                  .weight = weight,
                                  .heads = shape_.heads,
                                  .kv_heads = shape_.kv_heads,
                                  .head_dim = shape_.dim,
                                  .rope = rope.rows(),
                                  .segments = rows.segments,
                                  .kv = kv.view(),
                                  .q = q.data(),
                                  .qkv = qkv.data()});
      ops::attend(*context, {.q = q.data(),
                             .rows = count,
                             .heads = shape_.heads,
                             .scale = 1.0f / std::sqrt(static_cast<float>(shape_.dim)),
                             .segments = rows.segments,
                             .kv = kv.view(),
                             .out = attended.data()});
      context.finish();
      scatter(q, rows, q_width, out.q);
      scatter(attended, rows, q_width, out.attended);
    }
    return out;
  }

 private:
  static std::vector<TestWeight::PartSpec> parts(const GqaShape& s, DType dtype, bool identity) {
    if (identity) return {{DType::kF32, (s.heads + 2 * s.kv_heads) * s.dim}};
    return {{dtype, s.heads * s.dim}, {dtype, s.kv_heads * s.dim}, {dtype, s.kv_heads * s.dim}};
  }

  GqaShape shape_;
  int64_t hidden_;
  TestWeight weight_;
  Floats x_[2];
};

void expect_same(const Outputs& a, const Outputs& b, const std::string& what) {
  for (int s = 0; s < 2; ++s) {
    EXPECT_TRUE(same_bits(a.q[s], b.q[s])) << what << ": q of sequence " << s;
    EXPECT_TRUE(same_bits(a.attended[s], b.attended[s])) << what << ": attention of sequence " << s;
  }
}

void expect_same_for_every_schedule(const Backend* backend, const std::string& what,
                                    const std::function<Outputs(const TestContext&, const Schedule&)>& run) {
  const TestContext one(backend, 1), four(backend, 4);
  const std::vector<Schedule> all = schedules();
  const Outputs whole = run(one, all[0]);
  for (size_t i = 0; i < all.size(); ++i) {
    if (i > 0) expect_same(run(one, all[i]), whole, what + ", 1 thread, schedule " + std::to_string(i));
    expect_same(run(four, all[i]), whole, what + ", 4 threads, schedule " + std::to_string(i));
  }
}

constexpr GqaShape kGqaShapes[] = {
    {9, 3, 64, 64, DType::kF16, false},   {4, 4, 80, 32, DType::kF32, false},
    {6, 1, 128, 128, DType::kBF16, true}, {2, 2, 192, 192, DType::kF16, false},
    {3, 1, 36, 20, DType::kF32, true},
};

// Attention over keys rounded to the cache's dtype is f32 arithmetic; a backend may round queries or
// probabilities to that dtype as well.
double attention_tolerance(DType kv_dtype) {
  return kv_dtype == DType::kF32 ? 2e-5 : kv_dtype == DType::kF16 ? 4e-3 : 3e-2;
}

TEST_P(AttentionOps, AttendMatchesReference) {
  const TestContext context(GetParam(), 2), reference(cpu_backend("reference").value());
  for (const GqaShape& shape : kGqaShapes) {
    Rng rng(21);
    GqaLayer layer(rng, shape, DType::kF32, true);
    const Schedule schedule = schedules()[2];
    const Outputs actual = layer.run(context, schedule), expected = layer.run(reference, schedule);
    for (int s = 0; s < 2; ++s) {
      EXPECT_LT(rows_error(actual.q[s], expected.q[s], shape.dim), 1e-6) << shape.heads << " x " << shape.dim;
      EXPECT_LT(rows_error(actual.attended[s], expected.attended[s], shape.dim),
                attention_tolerance(shape.kv_dtype))
          << shape.heads << " x " << shape.dim;
    }
  }
}

TEST_P(AttentionOps, QkvProjectMatchesReference) {
  const TestContext context(GetParam(), 2), reference(cpu_backend("reference").value());
  for (const DType dtype : kWeightDTypes) {
    Rng rng(22);
    GqaLayer layer(rng, kGqaShapes[0], dtype, false);
    const Schedule schedule = schedules()[0];
    const Outputs actual = layer.run(context, schedule), expected = layer.run(reference, schedule);
    for (int s = 0; s < 2; ++s) {
      EXPECT_LT(rows_error(actual.q[s], expected.q[s], 9 * 64), linear_tolerance(dtype, Compute::kAuto))
          << to_string(dtype);
      EXPECT_LT(rows_error(actual.attended[s], expected.attended[s], 9 * 64),
                4 * linear_tolerance(dtype, Compute::kAuto) + attention_tolerance(DType::kF16))
          << to_string(dtype);
    }
  }
}

TEST_P(AttentionOps, ATokenIsTheSameBitsInEveryChunkingAndBatch) {
  for (const GqaShape& shape : kGqaShapes) {
    Rng rng(23);
    GqaLayer layer(rng, shape, DType::kBF16, false);
    expect_same_for_every_schedule(
        GetParam(), std::to_string(shape.heads) + " x " + std::to_string(shape.dim),
        [&](const TestContext& context, const Schedule& schedule) { return layer.run(context, schedule); });
  }
}

// Scores of hundreds: exp overflows unless the maximum is taken off, and all but one weight vanish.
TEST_P(AttentionOps, AttendSurvivesHugeScores) {
  constexpr int kRows = 70, kDim = 64;
  const TestContext context(GetParam()), reference(cpu_backend("reference").value());
  Floats results[2];
  for (const TestContext* c : {&context, &reference}) {
    Rng rng(24);
    TestWeight unit(rng, {.parts = {{DType::kF32, 3 * kDim}}, .cols = 3 * kDim, .compute = Compute::kF32});
    Floats identity(9 * kDim * kDim);
    for (size_t i = 0; i < 3 * kDim; ++i) identity[i * 3 * kDim + i] = 1.0f;
    unit.set_f32(identity);
    const Floats x = rng.normals(kRows * 3 * kDim, 40.0f);
    TestKv kv(rng, c->backend(), {DType::kF32, 1, kDim, kDim}, 1, kRows);
    const std::vector<Segment> segments = {{0, kRows, 0, kv.table(0)}};
    std::vector<int32_t> positions(kRows, 0);  // no rotation
    const RopeTable rope(positions, kDim / 2, false);
    Floats q = poisoned(kRows * kDim), qkv = poisoned(kRows * 3 * kDim), out = poisoned(kRows * kDim);
    c->begin({.segments = segments, .rope = rope.rows()});
    ops::qkv_project(**c, {.x = x.data(),
                           .rows = kRows,
                           .weight = unit.pack(c->backend()),
                           .heads = 1,
                           .kv_heads = 1,
                           .head_dim = kDim,
                           .rope = rope.rows(),
                           .segments = segments,
                           .kv = kv.view(),
                           .q = q.data(),
                           .qkv = qkv.data()});
    ops::attend(**c, {.q = q.data(),
                      .rows = kRows,
                      .heads = 1,
                      .scale = 1.0f,
                      .segments = segments,
                      .kv = kv.view(),
                      .out = out.data()});
    c->finish();
    results[c == &reference] = out;
  }
  EXPECT_LT(rows_error(results[0], results[1], kDim), 1e-2);
}

struct MlaShape {
  int heads, q_lora, latent, nope, rope, value;
  DType kv_dtype;
};

class MlaLayer {
 public:
  MlaLayer(Rng& rng, const MlaShape& s, DType dtype)
      : s_(s),
        a_(rng, {.parts = a_parts(s, dtype), .cols = kHidden}),
        q_b_(rng,
             {.parts = {{dtype, s.heads * (s.nope + s.rope)}}, .cols = s.q_lora > 0 ? s.q_lora : kHidden}),
        w_uk_(rng, {.parts = {{absorbed(dtype), s.latent}}, .cols = s.nope, .batch = s.heads}),
        w_uv_(rng, {.parts = {{absorbed(dtype), s.value}}, .cols = s.latent, .batch = s.heads}),
        gain_(rng.normals(kHidden)),
        q_gain_(rng.normals(std::max(s.q_lora, 1))),
        kv_gain_(rng.normals(s.latent)) {
    for (int i = 0; i < 2; ++i) x_[i] = rng.normals(kTokens[i] * kHidden);
  }

  int64_t q_width() const { return int64_t{s_.heads} * (s_.latent + s_.rope); }
  int64_t out_width() const { return int64_t{s_.heads} * s_.value; }

  Outputs run(const TestContext& context, const Schedule& schedule) {
    Rng rng(98);
    TestKv kv(rng, context.backend(), {s_.kv_dtype, 1, s_.latent + s_.rope, 0}, 2, 150);
    const PackedWeight* a = a_.pack(context.backend());
    const PackedWeight* q_b = q_b_.pack(context.backend());
    Outputs result;
    for (int s = 0; s < 2; ++s) {
      result.q[s] = poisoned(kTokens[s] * q_width());
      result.attended[s] = poisoned(kTokens[s] * out_width());
    }
    int done[2] = {0, 0};
    for (const auto& batch : schedule) {
      const Rows rows = rows_of(batch, done, kv);
      const auto count = static_cast<int64_t>(rows.positions.size());
      const RopeTable rope(rows.positions, s_.rope / 2, true);
      const Floats x = gather(x_, rows, kHidden);
      Floats q = poisoned(count * q_width()), out = poisoned(count * out_width());
      Floats attended = poisoned(count * s_.heads * s_.latent);
      Floats workspace =
          poisoned(count * (2 * s_.q_lora + s_.latent + s_.rope + s_.heads * (s_.nope + s_.rope) + kHidden));
      context.begin({.segments = rows.segments, .rope = rope.rows()});
      ops::mla_project(*context, {.x = x.data(),
                                  .rows = count,
                                  .norm = {gain_.data(), 1e-6f},
                                  .q_a_kv_a = a,
                                  .q_a_norm = {q_gain_.data(), 1e-6f},
                                  .q_b = q_b,
                                  .kv_a_norm = {kv_gain_.data(), 1e-6f},
                                  .w_uk = w_uk_.pack(context.backend()),
                                  .heads = s_.heads,
                                  .q_lora = s_.q_lora,
                                  .latent = s_.latent,
                                  .nope = s_.nope,
                                  .rope_dim = s_.rope,
                                  .rope = rope.rows(),
                                  .segments = rows.segments,
                                  .kv = kv.view(),
                                  .q = q.data(),
                                  .workspace = workspace.data()});
      ops::mla_attend(*context, {.q = q.data(),
                                 .rows = count,
                                 .heads = s_.heads,
                                 .latent = s_.latent,
                                 .value_dim = s_.value,
                                 .scale = 1.0f / std::sqrt(static_cast<float>(s_.latent + s_.rope)),
                                 .w_uk = w_uk_.pack(context.backend()),
                                 .w_uv = w_uv_.pack(context.backend()),
                                 .segments = rows.segments,
                                 .kv = kv.view(),
                                 .attended = attended.data(),
                                 .out = out.data()});
      context.finish();
      scatter(q, rows, q_width(), result.q);
      scatter(out, rows, out_width(), result.attended);
    }
    return result;
  }

 private:
  static constexpr int kHidden = 256;
  // The loader leaves no block format here: heads are narrower than blocks.
  static DType absorbed(DType dtype) { return is_quantized(dtype) ? DType::kF32 : dtype; }
  static std::vector<TestWeight::PartSpec> a_parts(const MlaShape& s, DType dtype) {
    std::vector<TestWeight::PartSpec> parts;
    if (s.q_lora > 0) parts.push_back({dtype, s.q_lora});
    parts.push_back({dtype, s.latent + s.rope});
    return parts;
  }

  MlaShape s_;
  TestWeight a_, q_b_, w_uk_, w_uv_;
  Floats gain_, q_gain_, kv_gain_;
  Floats x_[2];
};

constexpr MlaShape kMlaShapes[] = {
    {4, 0, 64, 32, 16, 32, DType::kF32},
    {3, 96, 40, 20, 12, 28, DType::kF16},
    {2, 256, 512, 128, 64, 128, DType::kBF16},
};

TEST_P(AttentionOps, MlaMatchesReference) {
  const TestContext context(GetParam(), 2), reference(cpu_backend("reference").value());
  for (const MlaShape& shape : kMlaShapes) {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3, DType::kQ8_0, DType::kQ4_K}) {
      if (dtype == DType::kQ4_K && shape.q_lora == 96) continue;  // 96 columns are no whole Q4_K blocks
      Rng rng(25);
      MlaLayer layer(rng, shape, dtype);
      const Schedule schedule = schedules()[3];
      const Outputs actual = layer.run(context, schedule), expected = layer.run(reference, schedule);
      const double tolerance = 4 * linear_tolerance(dtype, Compute::kAuto);
      for (int s = 0; s < 2; ++s) {
        EXPECT_LT(rows_error(actual.q[s], expected.q[s], layer.q_width()), tolerance) << to_string(dtype);
        EXPECT_LT(rows_error(actual.attended[s], expected.attended[s], layer.out_width()),
                  2 * tolerance + attention_tolerance(shape.kv_dtype))
            << to_string(dtype) << " latent " << shape.latent;
      }
    }
  }
}

TEST_P(AttentionOps, AnMlaTokenIsTheSameBitsInEveryChunkingAndBatch) {
  for (const MlaShape& shape : kMlaShapes) {
    for (const DType dtype : {DType::kQ8_0, DType::kF8E4M3}) {
      Rng rng(26);
      MlaLayer layer(rng, shape, dtype);
      expect_same_for_every_schedule(
          GetParam(), "latent " + std::to_string(shape.latent),
          [&](const TestContext& context, const Schedule& schedule) { return layer.run(context, schedule); });
    }
  }
}

}  // namespace
}  // namespace gantry::kernel_test

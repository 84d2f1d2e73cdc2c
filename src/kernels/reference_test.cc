// The reference backend against the published formulas, written here in double precision.
#include "kernels/reference/backend.h"
#include "kernels/reference/primitives.h"
#include "kernels/test_support.h"

namespace gantry::kernel_test {
namespace {

using Doubles = std::vector<double>;

Doubles to_double(std::span<const float> v) { return {v.begin(), v.end()}; }
Floats to_float(const Doubles& v) { return {v.begin(), v.end()}; }

Doubles norm_double(const Doubles& x, const Floats& weight, double eps) {
  double squares = 0;
  for (const double v : x) squares += v * v;
  Doubles y(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    y[i] = x[i] / std::sqrt(squares / static_cast<double>(x.size()) + eps) * static_cast<double>(weight[i]);
  }
  return y;
}

// W [rows, cols] x (+ bias)
Doubles times(std::span<const float> w, const Doubles& x, std::span<const float> bias = {}) {
  Doubles y(w.size() / x.size());
  for (size_t n = 0; n < y.size(); ++n) {
    for (size_t k = 0; k < x.size(); ++k) y[n] += static_cast<double>(w[n * x.size() + k]) * x[k];
    if (!bias.empty()) y[n] += static_cast<double>(bias[n]);
  }
  return y;
}

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

Doubles mlp_double(std::span<const float> gate_up, std::span<const float> down, const Doubles& x) {
  const Doubles h = times(gate_up, x);
  Doubles act(h.size() / 2);
  for (size_t i = 0; i < act.size(); ++i) act[i] = h[i] * sigmoid(h[i]) * h[act.size() + i];
  return times(down, act);
}

void rope_double(double* x, int position, int pairs, bool interleaved) {
  for (int i = 0; i < pairs; ++i) {
    const double angle = position * std::pow(10000.0, -static_cast<double>(i) / pairs);
    double& a = x[interleaved ? 2 * i : i];
    double& b = x[interleaved ? 2 * i + 1 : i + pairs];
    const double rotated = a * std::cos(angle) - b * std::sin(angle);
    b = a * std::sin(angle) + b * std::cos(angle);
    a = rotated;
  }
}

Doubles attend_double(const double* q, const std::vector<Doubles>& keys, const std::vector<Doubles>& values,
                      size_t positions, double scale) {
  Doubles weights(positions);
  double total = 0;
  for (size_t j = 0; j < positions; ++j) {
    double score = 0;
    for (size_t d = 0; d < keys[j].size(); ++d) score += q[d] * keys[j][d];
    weights[j] = std::exp(score * scale);
    total += weights[j];
  }
  Doubles out(values[0].size());
  for (size_t j = 0; j < positions; ++j) {
    for (size_t d = 0; d < out.size(); ++d) out[d] += weights[j] / total * values[j][d];
  }
  return out;
}

std::span<const float> row_of(const Floats& v, int64_t row, int64_t width) {
  return std::span<const float>(v).subspan(static_cast<size_t>(row * width), static_cast<size_t>(width));
}

TEST(Reference, EmbedReadsTheRowOfEachId) {
  Rng rng(1);
  for (const DType dtype : kWeightDTypes) {
    if (dtype == DType::kF8E4M3) continue;  // an embedding has no scales
    TestWeight table(rng, {.parts = {{dtype, 11}}, .cols = 256});
    const Floats dense = table.dense();
    const std::vector<int32_t> ids = {10, 0, 10, 3};
    Floats out = poisoned(4 * 256);
    TestContext context(reference_backend());
    ops::embed(*context, {.ids = ids, .table = table.view(0), .out = out.data()});
    for (size_t r = 0; r < ids.size(); ++r) {
      EXPECT_TRUE(same_bits(row_of(out, static_cast<int64_t>(r), 256), row_of(dense, ids[r], 256)));
    }
  }
}

TEST(Reference, NormLinearIsTheFormula) {
  Rng rng(2);
  for (const DType dtype : kWeightDTypes) {
    TestWeight weight(rng, {.parts = {{dtype, 33}, {DType::kF32, 5}}, .cols = 512, .bias = true});
    const Floats x = rng.normals(3 * 512, 4.0f), gain = rng.normals(512);
    Floats out = rng.normals(3 * 38);
    const Floats before = out;
    TestContext context(reference_backend());
    ops::norm_linear(*context, {.x = x.data(),
                                .rows = 3,
                                .norm = {gain.data(), 1e-5f},
                                .weight = weight.pack(context.backend()),
                                .out = out.data(),
                                .accumulate = true});
    for (int64_t r = 0; r < 3; ++r) {
      Doubles expected =
          times(weight.dense(), norm_double(to_double(row_of(x, r, 512)), gain, 1e-5), weight.bias());
      for (size_t n = 0; n < 38; ++n) expected[n] += static_cast<double>(row_of(before, r, 38)[n]);
      EXPECT_LT(row_error(row_of(out, r, 38), to_float(expected)), 1e-5) << to_string(dtype);
    }
  }
}

TEST(Reference, MlpIsSwiGlu) {
  Rng rng(3);
  TestWeight gate_up(rng, {.parts = {{DType::kF32, 40}, {DType::kBF16, 40}}, .cols = 24});
  TestWeight down(rng, {.parts = {{DType::kF32, 24}}, .cols = 40});
  const Floats x = rng.normals(2 * 24), gain = rng.normals(24);
  Floats out = poisoned(2 * 24), workspace = poisoned(2 * 80);
  TestContext context(reference_backend());
  ops::mlp(*context, {.x = x.data(),
                      .rows = 2,
                      .norm = {gain.data(), 1e-6f},
                      .gate_up = gate_up.pack(context.backend()),
                      .down = down.pack(context.backend()),
                      .workspace = workspace.data(),
                      .out = out.data()});
  for (int64_t r = 0; r < 2; ++r) {
    const Doubles expected =
        mlp_double(gate_up.dense(), down.dense(), norm_double(to_double(row_of(x, r, 24)), gain, 1e-6));
    EXPECT_LT(row_error(row_of(out, r, 24), to_float(expected)), 1e-5);
  }
}

TEST(Reference, HeadTakesTheChosenRows) {
  Rng rng(4);
  TestWeight weight(rng, {.parts = {{DType::kF16, 50}}, .cols = 32});
  const Floats x = rng.normals(5 * 32), gain = rng.normals(32);
  const std::vector<int32_t> rows = {4, 1};
  Floats out = poisoned(2 * 50), workspace = poisoned(2 * 32);
  TestContext context(reference_backend());
  ops::head(*context, {.x = x.data(),
                       .rows = rows,
                       .norm = {gain.data(), 1e-6f},
                       .weight = weight.pack(context.backend()),
                       .workspace = workspace.data(),
                       .out = out.data()});
  for (size_t m = 0; m < rows.size(); ++m) {
    const Doubles expected =
        times(weight.dense(), norm_double(to_double(row_of(x, rows[m], 32)), gain, 1e-6));
    EXPECT_LT(row_error(row_of(out, static_cast<int64_t>(m), 50), to_float(expected)), 1e-5);
  }
}

// Grouped-query attention over a prompt that crosses a block border, with a partial rotary and both pair
// orders.
class ReferenceAttention : public testing::TestWithParam<bool> {};

TEST_P(ReferenceAttention, IsCausalSoftmaxAttention) {
  const bool interleaved = GetParam();
  constexpr int kTokens = 70, kHeads = 6, kKvHeads = 2, kDim = 16, kHidden = 20, kPairs = 6;
  constexpr int kWidth = (kHeads + 2 * kKvHeads) * kDim;
  Rng rng(5);
  TestContext context(reference_backend());
  TestWeight weight(rng, {.parts = {{DType::kF32, kHeads * kDim},
                                    {DType::kF32, kKvHeads * kDim},
                                    {DType::kF32, kKvHeads * kDim}},
                          .cols = kHidden,
                          .bias = true});
  const Floats x = rng.normals(kTokens * kHidden), gain = rng.normals(kHidden);
  std::vector<int32_t> positions(kTokens);
  std::iota(positions.begin(), positions.end(), 0);
  const RopeTable rope(positions, kPairs, interleaved);
  TestKv kv(rng, context.backend(), {DType::kF32, kKvHeads, kDim, kDim}, 1, kTokens);
  const std::vector<Segment> segments = {{0, kTokens, 0, kv.table(0)}};
  Floats q = poisoned(kTokens * kHeads * kDim), qkv = poisoned(kTokens * kWidth);
  Floats out = poisoned(kTokens * kHeads * kDim);
  ops::qkv_project(*context, {.x = x.data(),
                              .rows = kTokens,
                              .norm = {gain.data(), 1e-6f},
                              .weight = weight.pack(context.backend()),
                              .heads = kHeads,
                              .kv_heads = kKvHeads,
                              .head_dim = kDim,
                              .rope = rope.rows(),
                              .segments = segments,
                              .kv = kv.view(),
                              .q = q.data(),
                              .qkv = qkv.data()});
  ops::attend(*context, {.q = q.data(),
                         .rows = kTokens,
                         .heads = kHeads,
                         .scale = 0.25f,
                         .segments = segments,
                         .kv = kv.view(),
                         .out = out.data()});

  std::vector<std::vector<Doubles>> keys(kKvHeads), values(kKvHeads);
  for (int t = 0; t < kTokens; ++t) {
    Doubles y =
        times(weight.dense(), norm_double(to_double(row_of(x, t, kHidden)), gain, 1e-6), weight.bias());
    for (int h = 0; h < kHeads + kKvHeads; ++h)
      rope_double(&y[static_cast<size_t>(h * kDim)], t, kPairs, interleaved);
    for (int h = 0; h < kKvHeads; ++h) {
      const auto k = y.begin() + (kHeads + h) * kDim, v = k + kKvHeads * kDim;
      keys[static_cast<size_t>(h)].emplace_back(k, k + kDim);
      values[static_cast<size_t>(h)].emplace_back(v, v + kDim);
    }
    for (int h = 0; h < kHeads; ++h) {
      const auto group = static_cast<size_t>(h / (kHeads / kKvHeads));
      const Doubles expected = attend_double(&y[static_cast<size_t>(h * kDim)], keys[group], values[group],
                                             static_cast<size_t>(t + 1), 0.25);
      EXPECT_LT(row_error(row_of(out, t * kHeads + h, kDim), to_float(expected)), 2e-5) << t << " " << h;
    }
  }
}
INSTANTIATE_TEST_SUITE_P(PairOrder, ReferenceAttention, testing::Bool());

// Absorbed MLA against the unabsorbed definition: per-head keys and values up-projected from the latent.
class ReferenceMla : public testing::TestWithParam<int> {};

TEST_P(ReferenceMla, EqualsTheUnabsorbedForm) {
  const int q_lora = GetParam();
  constexpr int kTokens = 66, kHeads = 3, kLatent = 24, kNope = 10, kRope = 8, kValue = 12, kHidden = 20;
  constexpr int kHeadWidth = kNope + kRope;
  Rng rng(6);
  TestContext context(reference_backend());
  std::vector<TestWeight::PartSpec> a_parts;
  if (q_lora > 0) a_parts.push_back({DType::kF32, q_lora});
  a_parts.push_back({DType::kF32, kLatent + kRope});
  TestWeight a(rng, {.parts = a_parts, .cols = kHidden});
  TestWeight q_b(rng, {.parts = {{DType::kF32, kHeads * kHeadWidth}}, .cols = q_lora > 0 ? q_lora : kHidden});
  TestWeight w_uk_weight(rng, {.parts = {{DType::kF32, kLatent}}, .cols = kNope, .batch = kHeads});
  TestWeight w_uv_weight(rng, {.parts = {{DType::kF32, kValue}}, .cols = kLatent, .batch = kHeads});
  const Floats x = rng.normals(kTokens * kHidden), gain = rng.normals(kHidden);
  const Floats q_gain = rng.normals(std::max(q_lora, 1)), kv_gain = rng.normals(kLatent);
  std::vector<int32_t> positions(kTokens);
  std::iota(positions.begin(), positions.end(), 0);
  const RopeTable rope(positions, kRope / 2, true);
  TestKv kv(rng, context.backend(), {DType::kF32, 1, kLatent + kRope, 0}, 1, kTokens);
  const std::vector<Segment> segments = {{0, kTokens, 0, kv.table(0)}};
  Floats q = poisoned(kTokens * kHeads * (kLatent + kRope));
  Floats workspace = poisoned(kTokens * (2 * q_lora + kLatent + kRope + kHeads * kHeadWidth + kHidden));
  Floats attended = poisoned(kTokens * kHeads * kLatent), out = poisoned(kTokens * kHeads * kValue);
  ops::mla_project(*context, {.x = x.data(),
                              .rows = kTokens,
                              .norm = {gain.data(), 1e-6f},
                              .q_a_kv_a = a.pack(context.backend()),
                              .q_a_norm = {q_gain.data(), 1e-6f},
                              .q_b = q_b.pack(context.backend()),
                              .kv_a_norm = {kv_gain.data(), 1e-6f},
                              .w_uk = w_uk_weight.pack(context.backend()),
                              .heads = kHeads,
                              .q_lora = q_lora,
                              .latent = kLatent,
                              .nope = kNope,
                              .rope_dim = kRope,
                              .rope = rope.rows(),
                              .segments = segments,
                              .kv = kv.view(),
                              .q = q.data(),
                              .workspace = workspace.data()});
  ops::mla_attend(*context, {.q = q.data(),
                             .rows = kTokens,
                             .heads = kHeads,
                             .latent = kLatent,
                             .value_dim = kValue,
                             .scale = 0.3f,
                             .w_uv = w_uv_weight.pack(context.backend()),
                             .segments = segments,
                             .kv = kv.view(),
                             .attended = attended.data(),
                             .out = out.data()});

  std::vector<std::vector<Doubles>> keys(kHeads), values(kHeads);
  for (int t = 0; t < kTokens; ++t) {
    const Doubles normed = norm_double(to_double(row_of(x, t, kHidden)), gain, 1e-6);
    const Doubles down = times(a.dense(), normed);
    const Doubles q_in =
        q_lora > 0 ? norm_double(Doubles(down.begin(), down.begin() + q_lora), q_gain, 1e-6) : normed;
    Doubles queries = times(q_b.dense(), q_in);
    const Doubles latent =
        norm_double(Doubles(down.begin() + q_lora, down.begin() + q_lora + kLatent), kv_gain, 1e-6);
    Doubles k_pe(down.end() - kRope, down.end());
    rope_double(k_pe.data(), t, kRope / 2, true);
    for (int h = 0; h < kHeads; ++h) {
      const auto head = static_cast<size_t>(h);
      const Floats w_uk = w_uk_weight.dense(h);
      Doubles key(kNope), value = times(w_uv_weight.dense(h), latent);
      for (size_t n = 0; n < kNope; ++n) {
        for (size_t l = 0; l < kLatent; ++l) {
          key[n] += static_cast<double>(w_uk[l * kNope + n]) * latent[l];
        }
      }
      key.insert(key.end(), k_pe.begin(), k_pe.end());
      keys[head].push_back(key);
      values[head].push_back(value);
      double* query = &queries[head * kHeadWidth];
      rope_double(query + kNope, t, kRope / 2, true);
      const Doubles expected =
          attend_double(query, keys[head], values[head], static_cast<size_t>(t + 1), 0.3);
      EXPECT_LT(row_error(row_of(out, t * kHeads + h, kValue), to_float(expected)), 5e-5) << t << " " << h;
    }
  }
}
INSTANTIATE_TEST_SUITE_P(QLora, ReferenceMla, testing::Values(0, 14));

TEST(Reference, MoeIsTheFormula) {
  constexpr int kExperts = 8, kHidden = 32, kWidth = 64, kShared = 96, kRows = 9;
  Rng rng(7);
  TestContext context(reference_backend());
  TestWeight gate_up(
      rng, {.parts = {{DType::kF32, kWidth}, {DType::kF32, kWidth}}, .cols = kHidden, .batch = kExperts});
  TestWeight down(rng, {.parts = {{DType::kQ8_0, kHidden}}, .cols = kWidth, .batch = kExperts});
  TestWeight shared_gate_up(rng,
                            {.parts = {{DType::kF32, kShared}, {DType::kF32, kShared}}, .cols = kHidden});
  TestWeight shared_down(rng, {.parts = {{DType::kF32, kHidden}}, .cols = kShared});
  TestWeight gate(
      rng, {.parts = {{DType::kF32, kExperts}}, .cols = kHidden, .compute = Compute::kF32, .sigma = 1});
  const Floats bias = rng.normals(kExperts, 0.3f);
  const Floats x = rng.normals(kRows * kHidden), gain = rng.normals(kHidden);
  Floats out = x, workspace = poisoned(kRows * (2 * kShared + kHidden));
  ops::moe(*context, {.x = x.data(),
                      .rows = kRows,
                      .hidden = kHidden,
                      .norm = {gain.data(), 1e-6f},
                      .gate_weight = gate.pack(context.backend()),
                      .gate_bias = bias.data(),
                      .gate = {.experts = kExperts, .experts_per_token = 3, .scaling = 2.5f},
                      .gate_up = gate_up.pack(context.backend()),
                      .down = down.pack(context.backend()),
                      .shared_gate_up = shared_gate_up.pack(context.backend()),
                      .shared_down = shared_down.pack(context.backend()),
                      .workspace = workspace.data(),
                      .out = out.data()});
  for (int64_t r = 0; r < kRows; ++r) {
    const Doubles normed = norm_double(to_double(row_of(x, r, kHidden)), gain, 1e-6);
    const Doubles logits = times(gate.dense(), normed);
    std::vector<size_t> order(kExperts);
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return sigmoid(logits[a]) + static_cast<double>(bias[a]) >
             sigmoid(logits[b]) + static_cast<double>(bias[b]);
    });
    double sum = 0;
    for (size_t k = 0; k < 3; ++k) sum += sigmoid(logits[order[k]]);
    Doubles expected = to_double(row_of(x, r, kHidden));
    const Doubles shared = mlp_double(shared_gate_up.dense(), shared_down.dense(), normed);
    for (size_t d = 0; d < kHidden; ++d) expected[d] += shared[d];
    for (size_t k = 0; k < 3; ++k) {
      const auto e = static_cast<int64_t>(order[k]);
      const Doubles y = mlp_double(gate_up.dense(e), down.dense(e), normed);
      for (size_t d = 0; d < kHidden; ++d) expected[d] += 2.5 * sigmoid(logits[order[k]]) / sum * y[d];
    }
    EXPECT_LT(row_error(row_of(out, r, kHidden), to_float(expected)), 1e-5) << r;
  }
}

TEST(Reference, DotAddsEachElementOnceAtEveryLength) {
  for (int64_t n = 0; n < 70; ++n) {
    Floats a(static_cast<size_t>(n)), b(static_cast<size_t>(n), 1.0f);
    std::iota(a.begin(), a.end(), 1.0f);
    EXPECT_EQ(reference::dot(a.data(), b.data(), n), static_cast<float>(n * (n + 1) / 2));
  }
}

}  // namespace
}  // namespace gantry::kernel_test

// norm_linear, mlp and head on every backend: against the reference, and the bitwise row contract.
#include <algorithm>

#include "kernels/test_support.h"

namespace gantry::kernel_test {
namespace {

class LinearOps : public testing::TestWithParam<const Backend*> {};
INSTANTIATE_TEST_SUITE_P(Backends, LinearOps, testing::ValuesIn(every_backend()), backend_name);

struct LinearCase {
  const Floats& x;
  int64_t rows = 0;
  const float* gain = nullptr;  // null: no norm
  bool accumulate = false;
};

Floats run_linear(const TestContext& context, TestWeight& weight, const LinearCase& c) {
  Floats out = poisoned(c.rows * weight.rows());
  if (c.accumulate) std::fill(out.begin(), out.end(), 0.75f);
  ops::norm_linear(*context, {.x = c.x.data(),
                              .rows = c.rows,
                              .norm = {c.gain, 1e-5f},
                              .weight = weight.pack(context.backend()),
                              .out = out.data(),
                              .accumulate = c.accumulate});
  context.finish();
  return out;
}

// Rounded activations are a matter of the CPU backends.
std::vector<Compute> computes_of(const Backend& backend) {
  if (backend.memory != nullptr) return {Compute::kAuto, Compute::kF32};
  return {Compute::kAuto, Compute::kF32, Compute::kF8, Compute::kF8PowerOfTwo};
}

TEST_P(LinearOps, NormMatchesReferenceAndARowIsTheSameBitsInEveryBatch) {
  Rng rng(10);
  const TestContext context(GetParam(), 2), reference(cpu_backend("reference").value());
  constexpr int64_t kRows = 19, kStride = 400;
  for (const int64_t width : {1, 7, 128, 333}) {
    const Floats x = rng.normals(kRows * width, 3.0f), gain = rng.normals(width);
    std::vector<int32_t> index(kRows);
    for (int32_t& i : index) i = rng.below(kRows);
    const auto run = [&](const TestContext& on, const int32_t* rows_of, int64_t rows) {
      Floats out = poisoned(rows * kStride);
      on.begin({.logit_rows = {rows_of, static_cast<size_t>(rows_of != nullptr ? rows : 0)}});
      ops::norm(*on, {.x = x.data(),
                      .rows = rows,
                      .width = width,
                      .index = rows_of,
                      .norm = {gain.data(), 1e-5f},
                      .out = out.data(),
                      .out_stride = kStride});
      on.finish();
      return out;
    };
    const Floats all = run(context, nullptr, kRows), expected = run(reference, nullptr, kRows);
    const Floats gathered = run(context, index.data(), kRows);
    for (int64_t r = 0; r < kRows; ++r) {
      const auto row = [&](const Floats& of, int64_t i) {
        return std::span(of).subspan(static_cast<size_t>(i * kStride), static_cast<size_t>(width));
      };
      EXPECT_LT(row_error(row(all, r), row(expected, r)), 1e-6) << width;
      EXPECT_TRUE(same_bits(row(gathered, r), row(all, index[static_cast<size_t>(r)]))) << width;
      EXPECT_TRUE(same_bits(row(run(context, &index[static_cast<size_t>(r)], 1), 0), row(gathered, r)))
          << width;
      EXPECT_TRUE(std::isnan(all[static_cast<size_t>(r * kStride + width)])) << "written past the row";
    }
  }
}

TEST_P(LinearOps, NormLinearMatchesReference) {
  Rng rng(11);
  const TestContext context(GetParam(), 2), reference(cpu_backend("reference").value());
  for (const DType dtype : kWeightDTypes) {
    std::vector<int64_t> widths = {256, 768, 1536};
    if (dtype_info(dtype).block_elements <= 32) widths.insert(widths.end(), {32, 192, 576, 33 * 32});
    if (!is_quantized(dtype)) widths.insert(widths.end(), {1, 7, 19, 80, 333});
    for (const int64_t cols : widths) {
      for (const int64_t rows_out : {1, 7, 129}) {
        for (const Compute compute : computes_of(*GetParam())) {
          TestWeight weight(rng, {.parts = {{dtype, rows_out}, {DType::kF32, 3}},
                                  .cols = cols,
                                  .bias = rows_out == 7,
                                  .compute = compute});
          for (const int64_t rows : {1, 5, 18}) {
            const Floats x = rng.normals(rows * cols, 3.0f), gain = rng.normals(cols);
            const LinearCase c{x, rows, rows == 5 ? nullptr : gain.data(), rows == 18};
            const Floats actual = run_linear(context, weight, c);
            const Floats expected = run_linear(reference, weight, c);
            // A short row's root mean square can be near zero by chance: the scale is the whole output's.
            EXPECT_LT(row_error(actual, expected), linear_tolerance(dtype, compute))
                << to_string(dtype) << " [" << rows_out << ", " << cols << "] rows " << rows << " compute "
                << static_cast<int>(compute);
          }
        }
      }
    }
  }
}

TEST_P(LinearOps, NormLinearSurvivesHostileRows) {
  Rng rng(12);
  const TestContext context(GetParam()), reference(cpu_backend("reference").value());
  constexpr int64_t kCols = 768, kOut = 33;
  std::vector<Floats> hostile;
  hostile.push_back(Floats(kCols, 0.0f));
  hostile.push_back(Floats(kCols, -0.0f));
  hostile.push_back(Floats(kCols, 1e-41f));  // denormal: the reciprocal of its scale overflows
  hostile.push_back(rng.normals(kCols, 1e-38f));
  hostile.push_back(rng.normals(kCols, 1e15f));
  hostile.push_back(rng.normals(kCols));
  hostile.back()[100] = 1e4f;  // one outlier channel
  hostile.push_back(Floats(kCols, 0.0f));
  hostile.back()[767] = -3.0f;
  Floats x;
  for (const auto& row : hostile) x.insert(x.end(), row.begin(), row.end());
  const Floats gain = rng.normals(kCols);
  for (const DType dtype : kWeightDTypes) {
    for (const Compute compute : computes_of(*GetParam())) {
      TestWeight weight(rng, {.parts = {{dtype, kOut}}, .cols = kCols, .compute = compute});
      for (const bool norm : {false, true}) {
        const LinearCase c{x, static_cast<int64_t>(hostile.size()), norm ? gain.data() : nullptr};
        const Floats actual = run_linear(context, weight, c);
        const Floats expected = run_linear(reference, weight, c);
        for (size_t r = 0; r < hostile.size(); ++r) {
          const auto a = std::span<const float>(actual).subspan(r * kOut, kOut);
          const auto e = std::span<const float>(expected).subspan(r * kOut, kOut);
          double largest = 0;
          for (const float v : a) {
            ASSERT_TRUE(std::isfinite(v)) << to_string(dtype) << " row " << r << " norm " << norm;
            largest = std::max(largest, std::fabs(static_cast<double>(v)));
          }
          if (r < 4 && !norm) {  // below 1e-37: rounding of denormals is not bounded relatively
            EXPECT_LT(largest, 1e-36) << to_string(dtype) << " row " << r;
          } else {
            EXPECT_LT(row_error(a, e), 2 * linear_tolerance(dtype, compute))
                << to_string(dtype) << " row " << r << " norm " << norm << " compute "
                << static_cast<int>(compute);
          }
        }
      }
    }
  }
}

// Splits of 70 rows whose pieces cover every count that a kernel's row blocking may treat apart.
const std::vector<std::vector<int64_t>>& row_splits() {
  static const std::vector<std::vector<int64_t>> splits = {
      {70},        std::vector<int64_t>(70, 1), {2, 3, 4, 5, 6, 7, 8, 9, 10, 16}, {64, 6}, {1, 69}, {33, 37},
      {17, 15, 38}};
  return splits;
}

TEST_P(LinearOps, ARowIsTheSameBitsInEveryBatch) {
  Rng rng(13);
  constexpr int64_t kRows = 70;
  for (const DType dtype : kWeightDTypes) {
    for (const Compute compute : computes_of(*GetParam())) {
      const int64_t cols = dtype_info(dtype).block_elements > 32 ? 512 : is_quantized(dtype) ? 576 : 333;
      TestWeight weight(rng, {.parts = {{dtype, 45}, {DType::kF32, 2}}, .cols = cols, .compute = compute});
      const Floats x = rng.normals(kRows * cols), gain = rng.normals(cols);
      const TestContext one(GetParam(), 1), four(GetParam(), 4);
      const Floats whole = run_linear(one, weight, {x, kRows, gain.data()});
      for (const TestContext* context : {&one, &four}) {
        for (const auto& split : row_splits()) {
          Floats pieces;
          int64_t first = 0;
          for (const int64_t rows : split) {
            const Floats part(x.begin() + first * cols, x.begin() + (first + rows) * cols);
            const Floats out = run_linear(*context, weight, {part, rows, gain.data()});
            pieces.insert(pieces.end(), out.begin(), out.end());
            first += rows;
          }
          ASSERT_TRUE(same_bits(pieces, whole))
              << to_string(dtype) << " compute " << static_cast<int>(compute) << " split of " << split.size()
              << " first " << split[0];
        }
      }
    }
  }
}

// FP8 weights that are wide enough to stay FP8 on a GPU, where activations are rounded to FP8 too: half a unit of 3 bits
// of mantissa is 2% of a value on average, and the largest of 10^5 sums of them is off by 5 standard deviations.
TEST_P(LinearOps, WideFp8MatchesReferenceAndKeepsRowsApart) {
  Rng rng(17);
  constexpr int64_t kRows = 130, kCols = 1024;
  const TestContext context(GetParam(), 2), reference(cpu_backend("reference").value());
  TestWeight weight(rng, {.parts = {{DType::kF8E4M3, 1152}, {DType::kF8E4M3, 1088}}, .cols = kCols});
  const Floats x = rng.normals(kRows * kCols), gain = rng.normals(kCols);
  const Floats whole = run_linear(context, weight, {x, kRows, gain.data()});
  EXPECT_LT(rows_error(whole, run_linear(reference, weight, {x, kRows, gain.data()}), weight.rows()),
            GetParam()->memory != nullptr ? 0.12 : linear_tolerance(DType::kF8E4M3, Compute::kAuto));
  Floats pieces;
  int64_t first = 0;
  for (const int64_t rows : {1, 2, 7, 16, 33, 70, 1}) {
    const Floats part(x.begin() + first * kCols, x.begin() + (first + rows) * kCols);
    const Floats out = run_linear(context, weight, {part, rows, gain.data()});
    pieces.insert(pieces.end(), out.begin(), out.end());
    first += rows;
  }
  ASSERT_EQ(first, kRows);
  EXPECT_TRUE(same_bits(pieces, whole));
}

struct MlpWeights {
  TestWeight gate_up;
  TestWeight down;
};

Floats run_mlp(const TestContext& context, MlpWeights& w, std::span<const float> x, int64_t rows,
               const float* gain) {
  const int64_t hidden = w.gate_up.cols(), width = w.down.cols();
  Floats out(x.begin(), x.end());  // the residual stream: out and x hold the same values
  Floats workspace = poisoned(rows * 2 * width);
  EXPECT_EQ(static_cast<int64_t>(x.size()), rows * hidden);
  ops::mlp(*context, {.x = out.data(),
                      .rows = rows,
                      .norm = {gain, 1e-5f},
                      .gate_up = w.gate_up.pack(context.backend()),
                      .down = w.down.pack(context.backend()),
                      .workspace = workspace.data(),
                      .out = out.data(),
                      .accumulate = true});
  context.finish();
  return out;
}

TEST_P(LinearOps, MlpMatchesReferenceAndKeepsRowsApart) {
  Rng rng(14);
  constexpr int64_t kRows = 70;
  const TestContext one(GetParam(), 1), four(GetParam(), 4), reference(cpu_backend("reference").value());
  for (const DType dtype : kWeightDTypes) {
    for (const Compute compute : computes_of(*GetParam())) {
      const int64_t hidden = dtype_info(dtype).block_elements > 32 ? 256 : 192;
      const int64_t width = dtype_info(dtype).block_elements > 32 ? 512 : 288;
      MlpWeights w{
          TestWeight(rng, {.parts = {{dtype, width}, {dtype, width}}, .cols = hidden, .compute = compute}),
          TestWeight(rng, {.parts = {{dtype, hidden}}, .cols = width, .compute = compute})};
      const Floats x = rng.normals(kRows * hidden), gain = rng.normals(hidden);
      const Floats whole = run_mlp(one, w, x, kRows, gain.data());
      // Three linears and a product in a row.
      EXPECT_LT(rows_error(whole, run_mlp(reference, w, x, kRows, gain.data()), hidden),
                3 * linear_tolerance(dtype, compute))
          << to_string(dtype);
      for (const TestContext* context : {&one, &four}) {
        for (const std::vector<int64_t>& split : {std::vector<int64_t>(70, 1), row_splits()[2]}) {
          Floats pieces;
          int64_t first = 0;
          for (const int64_t rows : split) {
            const auto part = std::span<const float>(x).subspan(static_cast<size_t>(first * hidden),
                                                                static_cast<size_t>(rows * hidden));
            const Floats out = run_mlp(*context, w, part, rows, gain.data());
            pieces.insert(pieces.end(), out.begin(), out.end());
            first += rows;
          }
          ASSERT_TRUE(same_bits(pieces, whole)) << to_string(dtype) << " split of " << split.size();
        }
      }
    }
  }
}

Floats run_head(const TestContext& context, TestWeight& weight, const Floats& x,
                std::span<const int32_t> rows, const float* gain) {
  const auto count = static_cast<int64_t>(rows.size());
  Floats out = poisoned(count * weight.rows()), workspace = poisoned(count * weight.cols());
  context.begin({.logit_rows = rows, .logits = out.data()});
  ops::head(*context, {.x = x.data(),
                       .rows = rows,
                       .norm = {gain, 1e-5f},
                       .weight = weight.pack(context.backend()),
                       .workspace = workspace.data(),
                       .out = out.data()});
  context.finish();
  return out;
}

TEST_P(LinearOps, HeadMatchesReferenceAndKeepsRowsApart) {
  Rng rng(15);
  constexpr int64_t kRows = 9, kVocabulary = 301;
  const std::vector<int32_t> chosen = {8, 0, 3, 3, 7};
  const TestContext one(GetParam(), 1), four(GetParam(), 4), reference(cpu_backend("reference").value());
  for (const DType dtype : kWeightDTypes) {
    const int64_t hidden = 512;
    TestWeight weight(rng, {.parts = {{dtype, kVocabulary}}, .cols = hidden});
    const Floats x = rng.normals(kRows * hidden), gain = rng.normals(hidden);
    const Floats all = run_head(one, weight, x, chosen, gain.data());
    EXPECT_LT(rows_error(all, run_head(reference, weight, x, chosen, gain.data()), kVocabulary),
              linear_tolerance(dtype, Compute::kAuto))
        << to_string(dtype);
    for (size_t m = 0; m < chosen.size(); ++m) {
      const Floats alone = run_head(four, weight, x, std::span(chosen).subspan(m, 1), gain.data());
      EXPECT_TRUE(same_bits(alone, std::span<const float>(all).subspan(m * kVocabulary, kVocabulary)))
          << to_string(dtype);
    }
  }
}

TEST_P(LinearOps, EmbedIsExact) {
  Rng rng(16);
  const TestContext context(GetParam(), 4), reference(cpu_backend("reference").value());
  for (const DType dtype : kWeightDTypes) {
    const int64_t hidden = is_quantized(dtype) ? 768 : 333;
    TestWeight table(rng, {.parts = {{dtype, 40}}, .cols = hidden});
    const std::vector<int32_t> ids = {39, 0, 7, 7, 21};
    Floats actual = poisoned(5 * hidden), expected = poisoned(5 * hidden);
    context.begin({.ids = ids});
    ops::embed(*context, {.ids = ids, .table = table.view(0), .out = actual.data()});
    context.finish();
    ops::embed(*reference, {.ids = ids, .table = table.view(0), .out = expected.data()});
    EXPECT_TRUE(same_bits(actual, expected)) << to_string(dtype);
  }
}

}  // namespace
}  // namespace gantry::kernel_test

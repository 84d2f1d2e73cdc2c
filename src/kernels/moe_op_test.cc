// moe on every backend: against the reference, and the bitwise row contract.
#include <algorithm>

#include "kernels/test_support.h"

namespace gantry::kernel_test {
namespace {

class MoeOps : public testing::TestWithParam<const Backend*> {};
INSTANTIATE_TEST_SUITE_P(Backends, MoeOps, testing::ValuesIn(every_backend()), backend_name);

constexpr int64_t kHidden = 256, kWidth = 256, kShared = 256, kRows = 70;
constexpr int32_t kExperts = 8;

struct MoeLayer {
  GateParams gate_params;
  TestWeight gate_up, down, shared_gate_up, shared_down, gate;
  Floats bias, gain, x;

  // Router rows far apart, so that arithmetic in another order cannot change which experts a row picks.
  MoeLayer(Rng& rng, DType dtype, Compute compute, const GateParams& params)
      : gate_params(params),
        gate_up(rng, {.parts = {{dtype, kWidth}, {dtype, kWidth}},
                      .cols = kHidden,
                      .batch = kExperts,
                      .compute = compute}),
        down(rng, {.parts = {{dtype, kHidden}}, .cols = kWidth, .batch = kExperts, .compute = compute}),
        shared_gate_up(rng,
                       {.parts = {{dtype, kShared}, {dtype, kShared}}, .cols = kHidden, .compute = compute}),
        shared_down(rng, {.parts = {{dtype, kHidden}}, .cols = kShared, .compute = compute}),
        gate(
            rng,
            {.parts = {{DType::kBF16, kExperts}}, .cols = kHidden, .compute = Compute::kF32, .sigma = 0.05f}),
        bias(rng.normals(kExperts, 0.5f)),
        gain(rng.normals(kHidden)),
        x(rng.normals(kRows * kHidden)) {}

  Floats run(const TestContext& context, int64_t first, int64_t rows, bool shared = true) {
    Floats out(x.begin() + first * kHidden, x.begin() + (first + rows) * kHidden);
    Floats workspace = poisoned(rows * (2 * kShared + kHidden));
    ops::moe(*context, {.x = out.data(),  // the residual stream, added to in place
                        .rows = rows,
                        .hidden = kHidden,
                        .norm = {gain.data(), 1e-6f},
                        .gate_weight = gate.pack(context.backend()),
                        .gate_bias = bias.data(),
                        .gate = gate_params,
                        .gate_up = gate_up.pack(context.backend()),
                        .down = down.pack(context.backend()),
                        .shared_gate_up = shared ? shared_gate_up.pack(context.backend()) : nullptr,
                        .shared_down = shared ? shared_down.pack(context.backend()) : nullptr,
                        .workspace = workspace.data(),
                        .out = out.data()});
    context.finish();
    return out;
  }
};

constexpr GateParams kGates[] = {
    {.experts = kExperts, .experts_per_token = 3, .groups = 4, .topk_group = 2, .scaling = 2.5f},
    {.experts = kExperts, .experts_per_token = 1, .normalize = false},
};

TEST_P(MoeOps, MatchesReference) {
  const TestContext context(GetParam(), 2), reference(cpu_backend("reference").value());
  for (const DType dtype : kWeightDTypes) {
    for (const Compute compute : {Compute::kAuto, Compute::kF32, Compute::kF8}) {
      if (compute == Compute::kF8 && GetParam()->memory != nullptr) continue;  // of the CPU backends
      for (const GateParams& gate : kGates) {
        Rng rng(31);
        MoeLayer layer(rng, dtype, compute, gate);
        for (const bool shared : {true, false}) {
          EXPECT_LT(
              rows_error(layer.run(context, 0, 20, shared), layer.run(reference, 0, 20, shared), kHidden),
              3 * linear_tolerance(dtype, compute))
              << to_string(dtype) << " shared " << shared << " compute " << static_cast<int>(compute);
        }
      }
    }
  }
}

TEST_P(MoeOps, ARowIsTheSameBitsInEveryBatch) {
  const TestContext one(GetParam(), 1), four(GetParam(), 4);
  for (const DType dtype :
       {DType::kF32, DType::kBF16, DType::kF8E4M3, DType::kQ4_0, DType::kQ8_0, DType::kQ6_K}) {
    Rng rng(32);
    MoeLayer layer(rng, dtype, Compute::kAuto, kGates[0]);
    const Floats whole = layer.run(one, 0, kRows);
    ASSERT_TRUE(same_bits(layer.run(four, 0, kRows), whole)) << to_string(dtype) << ", 4 threads";
    for (const TestContext* context : {&one, &four}) {
      int64_t first = 0;
      for (int64_t rows = 1; first < kRows; ++rows) {
        const int64_t count = std::min(rows, kRows - first);
        ASSERT_TRUE(same_bits(layer.run(*context, first, count),
                              std::span<const float>(whole).subspan(static_cast<size_t>(first * kHidden),
                                                                    static_cast<size_t>(count * kHidden))))
            << to_string(dtype) << ": " << count << " rows from " << first;
        first += count;
      }
    }
  }
}

}  // namespace
}  // namespace gantry::kernel_test

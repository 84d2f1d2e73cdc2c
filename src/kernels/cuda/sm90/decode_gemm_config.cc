#include <algorithm>

#include "kernels/cuda/sm90/decode_gemm.h"

namespace gantry::sm90 {
namespace {

constexpr int kRowBytes = 128;  // of a stage: 128 e4m3 or 64 bf16
constexpr int kStagesMax = 12;
constexpr int kScalesMax = 144;  // k-blocks of R1's widest K, 18432: a tile's scales in shared memory
// Blocks that share a multiprocessor overlap one's start with another's end, and leave room for the next
// kernel's.
constexpr int kSmemOfThree = 72 << 10, kSmemOfTwo = 110 << 10, kSmemOfOne = 220 << 10;

int stage_bytes(const DecodeGemmConfig& c) {
  return (c.rows + c.tokens) * kRowBytes + c.tokens * static_cast<int>(sizeof(float));
}
// Alignment slack, weight scales, two barriers a stage.
constexpr int kFixedBytes = 1024 + kScalesMax * static_cast<int>(sizeof(float)) + 2 * kStagesMax * 8;

int ceil_div(int a, int b) { return (a + b - 1) / b; }

}  // namespace

int decode_gemm_smem_bytes(const DecodeGemmConfig& config) {
  const int ring = config.stages * stage_bytes(config);
  // The partial sums of split-K reuse the ring; rows are padded by 4 floats against bank conflicts.
  const int partials =
      config.split > 1 ? config.tokens * (config.rows + 4) * static_cast<int>(sizeof(float)) : 0;
  return kFixedBytes + std::max(ring, partials);
}

DecodeGemmConfig with_stages(DecodeGemmConfig config, int budget_bytes, int kblocks) {
  const int fit = (budget_bytes - kFixedBytes) / stage_bytes(config);
  config.stages = std::clamp(std::min(fit, ceil_div(kblocks, config.split)), 2, kStagesMax);
  config.smem_bytes = decode_gemm_smem_bytes(config);
  return config;
}

int k_blocks(const DecodeGemmShape& shape) {
  const int block = shape.type == GemmType::kE4m3 ? 128 : 64;
  return shape.k > 0 && shape.k % block == 0 ? shape.k / block : 0;
}

DecodeGemmConfig choose_decode_gemm(const DecodeGemmShape& shape, int sm_count) {
  const int blocks = k_blocks(shape);
  if (shape.m < 1 || shape.m > 128 || shape.n < 8 || shape.n % 8 != 0 || blocks == 0 || sm_count < 1 ||
      shape.batch < 1 || (shape.type == GemmType::kE4m3 && blocks > kScalesMax)) {
    return {};
  }
  DecodeGemmConfig best;
  best.tokens = 8;
  while (best.tokens < shape.m) best.tokens *= 2;

  // The rules and constants below reproduce the best of a sweep over R1's shapes on an H100 to within 4%
  // (bench/cuda, 2026-11-24).
  if (best.tokens >= 64) {
    // x travels to every block: 128 rows of W share it where there are enough tiles for all multiprocessors.
    best.rows = ceil_div(shape.n, 128) * shape.batch <= sm_count / 2 ? 64 : 128;
    const int tiles = ceil_div(shape.n, best.rows) * shape.batch;
    while (best.split < 8 && best.split * 2 <= blocks && tiles * best.split < sm_count * 96 / 100)
      best.split *= 2;
    // Clusters of 4 or 8 that need a whole multiprocessor each do not tile the machine.
    const bool alone = tiles * best.split <= sm_count && best.split <= 2;
    return with_stages(best, alone ? kSmemOfOne : kSmemOfTwo, blocks);
  }

  // Time, in bytes read: under 84 / 132 of the multiprocessors cannot draw the whole bandwidth; one block on
  // each leaves 8% of it; an exchange of partial sums costs 0.8 us.
  best.rows = 64;
  const int tiles = ceil_div(shape.n, best.rows) * shape.batch;
  const double bytes = static_cast<double>(shape.n) * shape.batch * blocks * kRowBytes;
  double best_cost = 0;
  for (const int split : {1, 2, 4, 8}) {
    if (split > blocks) break;
    const double ctas = static_cast<double>(tiles) * split;
    const double starved = std::max(1.0, sm_count * 84.0 / 132.0 / ctas);
    const double cost = bytes * starved * (ctas < 1.5 * sm_count ? 1.08 : 1.0) + (split > 1 ? 2.5e6 : 0.0);
    if (split == 1 || cost < best_cost) {
      best.split = split;
      best_cost = cost;
    }
  }
  const double ctas = static_cast<double>(tiles) * best.split;
  const bool three = ctas >= 1.9 * sm_count && ctas <= 3.5 * sm_count;
  return with_stages(best, three ? kSmemOfThree : kSmemOfTwo, blocks);
}

DecodeGemmConfig choose_row_invariant_gemm(const DecodeGemmShape& shape, int sm_count) {
  DecodeGemmShape one = shape;
  one.m = 1;
  DecodeGemmConfig c = choose_decode_gemm(one, sm_count);
  if (c.tokens == 0 || shape.m < 1) return {};
  while (c.tokens < shape.m && c.tokens < 128) c.tokens *= 2;
  return with_stages(c, kSmemOfTwo, k_blocks(shape));
}

std::string to_string(const DecodeGemmConfig& c) {
  return "tokens " + std::to_string(c.tokens) + " rows " + std::to_string(c.rows) + " split " +
         std::to_string(c.split) + " stages " + std::to_string(c.stages);
}

}  // namespace gantry::sm90

#include <algorithm>

#include "kernels/cuda/sm90/mla_decode.h"

namespace gantry::sm90 {
namespace {

constexpr int kStages = 2;
// Queries and two stages of keys, [64, 576] bf16 each, the probabilities [64, 64] bf16; then row maxima and
// barriers, and the slack that aligns the whole to 1024.
constexpr int kSmemBytes = (1 + kStages) * 64 * kMlaKey * 2 + 64 * 64 * 2 + 1024 + 1024;

int ceil_div(int a, int b) { return (a + b - 1) / b; }

}  // namespace

MlaDecodeConfig choose_mla_decode(const MlaDecodeShape& shape, int sm_count) {
  if (shape.batch < 1 || shape.heads < 1 || shape.context_max < 1 || sm_count < 1) return {};
  MlaDecodeConfig c{.head_tiles = ceil_div(shape.heads, kMlaHeads), .smem_bytes = kSmemBytes};
  const int tiles = c.head_tiles * shape.batch;
  const int blocks = ceil_div(shape.context_max, kMlaTokens);
  // One block of threads fills a multiprocessor. Time in context blocks: the waves' longest part, 1.5 to
  // start, and each part's sums written and merged at about a twelfth of a block.
  double best_cost = 0;
  for (int splits = 1; splits <= std::min(blocks, 64); ++splits) {
    const int waves = ceil_div(tiles * splits, sm_count);
    const double cost = waves * (ceil_div(blocks, splits) + 1.5) + (splits > 1 ? 2.0 + splits / 12.0 : 0.0);
    if (splits == 1 || cost < best_cost) {
      c.splits = splits;
      best_cost = cost;
    }
  }
  return c;
}

std::string to_string(const MlaDecodeConfig& c) {
  return "head tiles " + std::to_string(c.head_tiles) + " splits " + std::to_string(c.splits);
}

}  // namespace gantry::sm90

#include <algorithm>

#include "kernels/cuda/sm90/mla_prefill.h"

namespace gantry::sm90 {
namespace {

constexpr int kStages = 2;
// Queries and two stages of keys, [128, 192] bf16 each, two of values, [128, 128]; barriers, and the slack that aligns
// the whole to 1024.
constexpr int kSmemBytes =
    kMlaPrefillTile * 2 * ((1 + kStages) * (kMlaPrefillNope + kMlaPrefillRope) + kStages * kMlaPrefillValue) +
    1024 + 256;

// Keys and values of a token cost 2 * 512 * 256 operations a head whoever reads them, and a row that reads them saves
// 2 * (576 + 512 - 192 - 128) a token: they pay from 171 rows on; below 256 the start of four more kernels shows.
constexpr int64_t kRowsMin = 256;

}  // namespace

MlaPrefillConfig choose_mla_prefill(int heads, int64_t keys, int64_t bytes) {
  if (heads < 1 || keys < 1) return {};
  const int64_t fit = std::min<int64_t>(heads, bytes / (keys * kMlaPrefillKeyBytes));
  if (fit < 1) return {};
  const int64_t turns = (heads + fit - 1) / fit;
  return {.heads = static_cast<int>((heads + turns - 1) / turns), .smem_bytes = kSmemBytes};
}

bool takes_mla_prefill(int64_t rows, int64_t length) { return rows >= kRowsMin && length >= rows; }

std::string to_string(const MlaPrefillConfig& c) { return "heads in turns of " + std::to_string(c.heads); }

}  // namespace gantry::sm90

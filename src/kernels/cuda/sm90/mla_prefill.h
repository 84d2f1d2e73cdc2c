// MLA for prefill, not absorbed (DeepSeek-V2, arXiv 2405.04434, section 2.1): the latents of a sequence, cached and new,
// become keys and values of every head, k = [W_UK c; rope] of 192 and v = W_UV c of 128 values, and rows attend to them
// as in multi-head attention, causal. bf16 on the matrix units, sums and softmax in f32. Ragged: sequences lie one after
// the other, each from a multiple of kMlaPrefillTile keys on. Heads come in turns that bound the keys' memory.
#pragma once

#include <cstdint>
#include <string>

namespace gantry::sm90 {

inline constexpr int kMlaPrefillNope = 128, kMlaPrefillRope = 64, kMlaPrefillValue = 128;
inline constexpr int kMlaPrefillTile = 128;  // rows of a block, and keys of a step

// The keys of a sequence, rounded up to whole tiles.
inline int64_t mla_prefill_keys(int64_t length) {
  return (length + kMlaPrefillTile - 1) / kMlaPrefillTile * kMlaPrefillTile;
}

struct MlaPrefillConfig {
  int heads = 0;  // of a turn
  int smem_bytes = 0;
  bool operator==(const MlaPrefillConfig&) const = default;
};
// bf16 of keys and values of one head and one key.
inline constexpr int64_t kMlaPrefillKeyBytes = 2 * (kMlaPrefillNope + kMlaPrefillValue);

// Pure. The most heads whose keys and values of `keys` keys fit `bytes`, in turns of equal size. heads == 0: none do.
MlaPrefillConfig choose_mla_prefill(int heads, int64_t keys, int64_t bytes);
// Whether `rows` rows of a sequence of `length` tokens, themselves included, gain by it over the absorbed kernel.
bool takes_mla_prefill(int64_t rows, int64_t length);
std::string to_string(const MlaPrefillConfig& config);

}  // namespace gantry::sm90

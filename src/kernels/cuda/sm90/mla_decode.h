// MLA decode attention, absorbed (DeepSeek-V2, arXiv 2405.04434, section 2.1): one query row per sequence and
// head, one shared key of latent + rope = 576 values whose first 512 are the value, bf16, in blocks of 64
// tokens. A block of threads takes 64 heads and a part of the context; parts are merged by log-sum-exp in
// order.
#pragma once

#include <cstdint>
#include <string>

namespace gantry::sm90 {

inline constexpr int kMlaKey = 576, kMlaValue = 512, kMlaTokens = 64, kMlaHeads = 64;

struct MlaDecodeShape {
  int batch = 0;
  int heads = 0;        // of this rank; 64 share a tile
  int context_max = 0;  // of the longest sequence, or of the graph's bucket
};

struct MlaDecodeConfig {
  int head_tiles = 0;
  int splits = 1;  // parts of a context
  int smem_bytes = 0;
  bool operator==(const MlaDecodeConfig&) const = default;
};

// Pure. head_tiles == 0: the shape is not supported.
MlaDecodeConfig choose_mla_decode(const MlaDecodeShape& shape, int sm_count);
std::string to_string(const MlaDecodeConfig& config);

}  // namespace gantry::sm90

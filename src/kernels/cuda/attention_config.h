// How rows, heads and contexts of attention.h become blocks of threads. Pure.
#pragma once

#include <cstdint>

namespace gantry::cuda {

inline constexpr int kAttentionPartition = 256;
inline constexpr int kAttentionDimMax = 640;  // of a key or value
// Of partial sums that any choice needs at most.
inline constexpr int64_t kAttentionPartialFloatsMax = int64_t{16} << 20;

struct AttentionShape {
  int64_t rows = 0;
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t value_dim = 0;
  int64_t context = 0;
};

struct AttentionConfig {
  int head_tile = 0;   // heads of one KV head that share a block: 1, 2, 4 or 8; 0: the shape is not supported
  int tiles = 0;       // of one KV head
  int partitions = 1;  // side by side; 1: one after the other
  bool operator==(const AttentionConfig&) const = default;
};

AttentionConfig choose_attention(const AttentionShape& shape, int sm_count);

}  // namespace gantry::cuda

// How much KV cache a replica gets, and the longest request that this allows.
#pragma once

#include <cstdint>

#include "base/status.h"

namespace gantry {

// Of a process on a CPU when nothing else is asked for.
inline constexpr uint64_t kDefaultKvCacheBytes = 512ull << 20;

struct KvDemand {
  uint64_t block_bytes = 0;   // of limits::kKvBlockTokens tokens, all layers
  int32_t max_position = 0;   // the checkpoint's
  int32_t max_model_len = 0;  // asked for; 0: as much as fits
  int32_t max_num_seqs = 0;
  uint64_t kv_cache_bytes = 0;  // asked for; 0: by memory_utilization
  // The share of memory_bytes that the process may use, vLLM's gpu_memory_utilization: the cache gets what
  // memory_used_bytes leaves of it. 0: min(max_num_seqs x max_model_len, kDefaultKvCacheBytes).
  double memory_utilization = 0;
  uint64_t memory_bytes = 0;
  uint64_t memory_used_bytes = 0;  // by weights, activations and the process itself
};
struct KvSize {
  int32_t blocks = 0;
  int32_t max_model_len = 0;
};

// kInvalidArgument if max_model_len is beyond the checkpoint, kResourceExhausted if one request of it does
// not fit: both say what would.
Result<KvSize> size_kv_cache(const KvDemand& demand);

}  // namespace gantry

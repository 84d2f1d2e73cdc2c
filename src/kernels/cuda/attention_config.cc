#include "kernels/cuda/attention_config.h"

#include <algorithm>

namespace gantry::cuda {

AttentionConfig choose_attention(const AttentionShape& shape, int sm_count) {
  if (shape.rows < 1 || shape.kv_heads < 1 || shape.heads < shape.kv_heads || shape.context < 1) return {};
  AttentionConfig config;
  const int32_t group = shape.heads / shape.kv_heads;
  config.head_tile = 1;
  while (config.head_tile < 8 && config.head_tile < group) config.head_tile *= 2;
  config.tiles = (group + config.head_tile - 1) / config.head_tile;
  const int64_t partitions = (shape.context + kAttentionPartition - 1) / kAttentionPartition;
  const int64_t blocks = shape.rows * shape.kv_heads * config.tiles;
  const int64_t floats = shape.rows * shape.heads * partitions * (shape.value_dim + 2);
  // Two blocks a multiprocessor hide each other's latencies; more gain nothing over walking the partitions.
  if (partitions > 1 && blocks < 2 * int64_t{sm_count} && floats <= kAttentionPartialFloatsMax) {
    config.partitions = static_cast<int>(std::min<int64_t>(partitions, 65535));
  }
  return config;
}

}  // namespace gantry::cuda

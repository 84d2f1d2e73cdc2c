#include "model/shard.h"

namespace gantry {

Shard make_shard(const ModelConfig& config, const ParallelLayout& layout, const RankGroups& groups) {
  const RankPlace place = layout.place(groups.rank);
  const int32_t ranks = layout.sizes().tensor;
  Shard shard{.widths = config,
              .layers = layout.stages()[static_cast<size_t>(place.stage)],
              .experts = layout.experts(place.tensor_rank),
              .vocab_begin = place.tensor_rank * layout.vocabulary_rows(),
              .vocab_rows = layout.vocabulary_rows(),
              .first_stage = place.stage == 0,
              .last_stage = place.stage + 1 == layout.sizes().pipeline,
              .groups = groups};
  shard.widths.heads = layout.heads();
  shard.widths.kv_heads = config.mla ? layout.heads() : layout.kv_heads();
  shard.widths.intermediate /= ranks;
  if (config.moe) {
    shard.shared_experts = int64_t{config.moe->shared_experts} * config.moe->intermediate / ranks;
    if (!layout.sizes().expert_parallel) shard.widths.moe->intermediate /= ranks;
  }
  return shard;
}

}  // namespace gantry

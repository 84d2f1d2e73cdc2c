// What one rank loads and runs of a model: all of it, or its stage's layers with its share of heads and widths.
#pragma once

#include "model/config.h"
#include "model/parallel_layout.h"
#include "model/rank_groups.h"

namespace gantry {

struct Shard {
  ModelConfig widths;          // the configuration with this rank's heads and intermediate sizes
  LayerRange layers;           // by their numbers in the checkpoint
  LayerRange experts;          // routed experts that lie here
  int64_t shared_experts = 0;  // columns of the shared experts together
  int64_t vocab_begin = 0;     // rows of embedding and head, padding included
  int64_t vocab_rows = 0;
  bool first_stage = true;
  bool last_stage = true;
  RankGroups groups;

  int32_t tensor_rank() const { return groups.rank % groups.sizes.tensor; }
};

Shard make_shard(const ModelConfig& config, const ParallelLayout& layout, const RankGroups& groups);

}  // namespace gantry

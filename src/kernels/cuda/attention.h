// Causal attention over the paged cache in f32 arithmetic, for any heads: GQA, and MLA where no fast kernel fits.
// A context is cut into partitions of kAttentionPartition positions, each a softmax of its own, merged in order: one
// after the other, or side by side where rows are few. Both give the same bits.
#pragma once

#include <cuda_runtime.h>

#include "base/status.h"
#include "kernels/cuda/attention_config.h"
#include "kernels/cuda/state.h"
#include "kernels/ops/args.h"

namespace gantry::cuda {

struct AttentionArgs {
  const float* q = nullptr;  // [rows, heads, key_dim]
  int64_t rows = 0;
  int32_t heads = 0;
  int32_t value_dim = 0;
  bool value_is_key = false;  // MLA: the value is the first value_dim of the key
  float scale = 0;
  KvView kv{};
  float* out = nullptr;      // [rows, heads, value_dim]
  float* partial = nullptr;  // [kAttentionPartialFloatsMax]
};

Status launch_attention(State& state, const AttentionArgs& args);

}  // namespace gantry::cuda

// Paged attention for both kinds of cache: how rows, heads and positions are cut into tasks.
#pragma once

#include <span>

#include "kernels/ops/backend.h"

namespace gantry::cpu {

// q [R, heads, key_dim], out [R, heads, value_dim]; value_dim: the layout's, or MLA's latent.
struct AttentionWork {
  const float* q = nullptr;
  int64_t rows = 0;
  int32_t heads = 0;
  int32_t value_dim = 0;
  float scale = 0;
  std::span<const Segment> segments{};
  KvView kv{};
  float* out = nullptr;
};
void attention(const OpContext& context, const AttentionWork& work);

size_t attention_scratch_bytes(const ScratchSpec& spec);

void attend(const OpContext& context, const AttendArgs& args);

}  // namespace gantry::cpu

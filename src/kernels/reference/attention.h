// Causal attention over the paged cache, shared by attend and mla_attend.
#pragma once

#include "kernels/ops/backend.h"

namespace gantry::reference {

struct AttentionShape {
  int32_t heads = 0;
  int32_t value_dim = 0;      // of one head's output
  bool value_is_key = false;  // MLA: the value is the first value_dim of the key
  float scale = 0;
};

// q [R, heads, key_dim], out [R, heads, value_dim]. Scores over positions 0 .. p, softmax, then the values
// added in order of position.
void attention(const OpContext& context, const AttentionShape& shape, std::span<const Segment> segments,
               const KvView& kv, const float* q, float* out);

// Bytes of scratch that attention() takes for the bounds.
size_t attention_scratch_bytes(const ScratchSpec& spec);

}  // namespace gantry::reference

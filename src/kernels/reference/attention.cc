#include "kernels/reference/attention.h"

#include "kernels/ops/scratch.h"
#include "kernels/reference/backend.h"
#include "kernels/reference/kv.h"
#include "kernels/reference/primitives.h"

namespace gantry::reference {

size_t attention_scratch_bytes(const ScratchSpec& spec) {
  return Scratch::size_of<float>(spec.threads * spec.heads * spec.context_max) +
         Scratch::size_of<float>(spec.threads * spec.head_dim_max);
}

void attention(const OpContext& context, const AttentionShape& shape, std::span<const Segment> segments,
               const KvView& kv, const float* q, float* out) {
  const int32_t kv_heads = kv.layout.kv_heads;
  const int32_t key_dim = kv.layout.key_dim;
  const int32_t group = shape.heads / kv_heads;
  int64_t context_max = 0;
  for (const Segment& s : segments) {
    const int64_t last = int64_t{s.first_position} + s.rows;
    context_max = last > context_max ? last : context_max;
  }
  Scratch scratch(context.scratch);
  float* all_scores = scratch.take<float>(context.pool->size() * group * context_max);
  float* all_vectors = scratch.take<float>(int64_t{context.pool->size()} * key_dim);

  for (const Segment& segment : segments) {
    // One task: a row and a KV head, so that each cached vector is converted once for the heads that share
    // it.
    context.pool->parallel_for(
        int64_t{segment.rows} * kv_heads, 1, [&](int64_t begin, int64_t end, int thread) {
          float* scores = all_scores + thread * group * context_max;  // [group, context_max]
          float* vector = all_vectors + thread * key_dim;
          for (int64_t task = begin; task < end; ++task) {
            const int64_t row = segment.first_row + task / kv_heads;
            const auto kv_head = static_cast<int32_t>(task % kv_heads);
            const int64_t positions = segment.first_position + task / kv_heads + 1;
            const int64_t first_head = row * shape.heads + kv_head * group;
            for (int64_t j = 0; j < positions; ++j) {
              read_key(kv, segment, j, kv_head, vector);
              for (int32_t g = 0; g < group; ++g) {
                scores[g * context_max + j] =
                    dot(q + (first_head + g) * key_dim, vector, key_dim) * shape.scale;
              }
            }
            for (int32_t g = 0; g < group; ++g) {
              softmax(scores + g * context_max, positions);
              float* head_out = out + (first_head + g) * shape.value_dim;
              for (int32_t d = 0; d < shape.value_dim; ++d) head_out[d] = 0.0f;
            }
            for (int64_t j = 0; j < positions; ++j) {
              if (shape.value_is_key) {
                read_key(kv, segment, j, kv_head, vector);
              } else {
                read_value(kv, segment, j, kv_head, vector);
              }
              for (int32_t g = 0; g < group; ++g) {
                const float weight = scores[g * context_max + j];
                float* head_out = out + (first_head + g) * shape.value_dim;
                for (int32_t d = 0; d < shape.value_dim; ++d) head_out[d] += weight * vector[d];
              }
            }
          }
        });
  }
}

void attend(const OpContext& context, const AttendArgs& args) {
  const AttentionShape shape{.heads = args.heads, .value_dim = args.kv.layout.value_dim, .scale = args.scale};
  attention(context, shape, args.segments, args.kv, args.q, args.out);
}

}  // namespace gantry::reference

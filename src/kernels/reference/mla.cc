// Multi-head latent attention, absorbed (DeepSeek-V2, arXiv 2405.04434, section 2.1).
#include "kernels/ops/scratch.h"
#include "kernels/reference/attention.h"
#include "kernels/reference/backend.h"
#include "kernels/reference/kv.h"
#include "kernels/reference/primitives.h"

namespace gantry::reference {

void mla_project(const OpContext& context, const MlaProjectArgs& args) {
  ThreadPool& pool = *context.pool;
  const int64_t hidden = args.q_a_kv_a->cols;
  const int64_t a_width = int64_t{args.q_lora} + args.latent + args.rope_dim;
  const int64_t head_width = int64_t{args.nope} + args.rope_dim;
  float* normed = args.workspace;              // [R, H]
  float* a = normed + args.rows * hidden;      // [R, q_lora + latent + rope]
  float* q_a = a + args.rows * a_width;        // [R, q_lora]
  float* q_b = q_a + args.rows * args.q_lora;  // [R, heads, nope + rope]

  Scratch scratch(context.scratch);
  float* row_scratch = scratch.take<float>(pool.size() * (hidden > args.q_lora ? hidden : args.q_lora));
  norm_rows(pool, {args.x, args.rows, hidden}, args.norm, hidden, normed);
  linear(pool, {normed, args.rows, hidden}, *args.q_a_kv_a, 0, row_scratch, {a, a_width, false});
  Rows q_input{normed, args.rows, hidden};
  if (args.q_lora > 0) {
    norm_rows(pool, {a, args.rows, a_width}, args.q_a_norm, args.q_lora, q_a);
    q_input = {q_a, args.rows, args.q_lora};
  }
  linear(pool, q_input, *args.q_b, 0, row_scratch, {q_b, args.heads * head_width, false});

  for (const Segment& segment : args.segments) {
    pool.parallel_for(segment.rows, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = segment.first_row + i;
        float* key = a + row * a_width + args.q_lora;  // [latent; rope]
        if (args.kv_a_norm.weight != nullptr) rms_norm(key, args.kv_a_norm, args.latent, key);
        rope(args.rope, row, key + args.latent);
        write_key(args.kv, segment, segment.first_position + i, 0, key);
        for (int32_t h = 0; h < args.heads; ++h) {
          float* head_q = q_b + (row * args.heads + h) * head_width;
          float* q = args.q + (row * args.heads + h) * (args.latent + args.rope_dim);
          const float* w_uk = args.w_uk + int64_t{h} * args.latent * args.nope;
          for (int32_t l = 0; l < args.latent; ++l)
            q[l] = dot(w_uk + int64_t{l} * args.nope, head_q, args.nope);
          rope(args.rope, row, head_q + args.nope);
          for (int32_t d = 0; d < args.rope_dim; ++d) q[args.latent + d] = head_q[args.nope + d];
        }
      }
    });
  }
}

void mla_attend(const OpContext& context, const MlaAttendArgs& args) {
  const AttentionShape shape{
      .heads = args.heads, .value_dim = args.latent, .value_is_key = true, .scale = args.scale};
  attention(context, shape, args.segments, args.kv, args.q, args.attended);
  context.pool->parallel_for(args.rows * args.heads, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const float* attended = args.attended + i * args.latent;
      const float* w_uv = args.w_uv + i % args.heads * args.value_dim * args.latent;
      for (int32_t d = 0; d < args.value_dim; ++d) {
        args.out[i * args.value_dim + d] = dot(w_uv + int64_t{d} * args.latent, attended, args.latent);
      }
    }
  });
}

}  // namespace gantry::reference

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
  int64_t cols_max = hidden > args.q_lora ? hidden : args.q_lora;
  cols_max = cols_max > args.nope ? cols_max : args.nope;
  float* row_scratch = scratch.take<float>(linear_scratch(pool, cols_max));
  norm_rows(pool, {args.x, args.rows, hidden}, args.norm, hidden, normed);
  linear(pool, {normed, args.rows, hidden}, *args.q_a_kv_a, 0, row_scratch, {a, a_width, false});
  Rows q_input{normed, args.rows, hidden};
  if (args.q_lora > 0) {
    norm_rows(pool, {a, args.rows, a_width}, args.q_a_norm, args.q_lora, q_a);
    q_input = {q_a, args.rows, args.q_lora};
  }
  linear(pool, q_input, *args.q_b, 0, row_scratch, {q_b, args.heads * head_width, false});

  const int64_t key_width = int64_t{args.latent} + args.rope_dim;
  for (int64_t h = 0; h < args.heads; ++h) {
    linear(pool, {q_b + h * head_width, args.rows, args.heads * head_width}, *args.w_uk, h, row_scratch,
           {args.q + h * key_width, args.heads * key_width, false});
  }
  for (const Segment& segment : args.segments) {
    pool.parallel_for(segment.rows, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = segment.first_row + i;
        float* key = a + row * a_width + args.q_lora;  // [latent; rope]
        if (args.kv_a_norm.weight != nullptr) rms_norm(key, args.kv_a_norm, args.latent, key);
        rope(args.rope, row, key + args.latent);
        write_key(args.kv, segment, segment.first_position + i, 0, key);
        for (int64_t h = 0; h < args.heads; ++h) {
          float* head_q = q_b + (row * args.heads + h) * head_width + args.nope;
          rope(args.rope, row, head_q);
          float* q = args.q + (row * args.heads + h) * key_width + args.latent;
          for (int32_t d = 0; d < args.rope_dim; ++d) q[d] = head_q[d];
        }
      }
    });
  }
}

void mla_attend(const OpContext& context, const MlaAttendArgs& args) {
  const AttentionShape shape{
      .heads = args.heads, .value_dim = args.latent, .value_is_key = true, .scale = args.scale};
  attention(context, shape, args.segments, args.kv, args.q, args.attended);
  Scratch scratch(context.scratch);
  float* row_scratch = scratch.take<float>(linear_scratch(*context.pool, args.latent));
  for (int64_t h = 0; h < args.heads; ++h) {
    linear(*context.pool, {args.attended + h * args.latent, args.rows, int64_t{args.heads} * args.latent},
           *args.w_uv, h, row_scratch,
           {args.out + h * args.value_dim, int64_t{args.heads} * args.value_dim, false});
  }
}

}  // namespace gantry::reference

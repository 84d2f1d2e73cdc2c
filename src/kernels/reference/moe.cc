// The mixture of experts of DeepSeek-V3 (arXiv 2412.19437, section 2.1.2).
#include "kernels/reference/moe.h"

#include <cstring>

#include "kernels/ops/gate.h"
#include "kernels/ops/scratch.h"
#include "kernels/reference/backend.h"
#include "kernels/reference/primitives.h"

namespace gantry::reference {

size_t moe_scratch_bytes(const ScratchSpec& spec) {
  const int64_t picks = spec.rows_max * spec.experts_per_token;
  return Scratch::size_of<float>(spec.rows_max * spec.experts) + Scratch::size_of<float>(spec.experts) +
         Scratch::size_of<int32_t>(picks) + Scratch::size_of<float>(picks) +
         Scratch::size_of<int32_t>(spec.rows_max) + Scratch::size_of<float>(spec.rows_max) +
         Scratch::size_of<float>(2 * spec.rows_max * spec.width_max) +
         Scratch::size_of<float>(2 * spec.rows_max * spec.expert_width);
}

void moe(const OpContext& context, const MoeArgs& args) {
  ThreadPool& pool = *context.pool;
  const int64_t hidden = args.hidden;
  const int64_t width = args.down->cols;
  const int64_t shared_width = args.shared_down != nullptr ? args.shared_down->cols : 0;
  const auto top_k = static_cast<int64_t>(args.gate.experts_per_token);
  float* normed = args.workspace;                   // [R, H]
  float* shared_act = normed + args.rows * hidden;  // [R, 2 shared_width]

  Scratch scratch(context.scratch);
  int64_t cols_max = hidden > width ? hidden : width;
  cols_max = cols_max > shared_width ? cols_max : shared_width;
  float* row_scratch = scratch.take<float>(linear_scratch(pool, cols_max));
  float* logits = scratch.take<float>(args.rows * args.gate.experts);
  float* scores = scratch.take<float>(args.gate.experts);
  int32_t* picked = scratch.take<int32_t>(args.rows * top_k);    // [R, top_k], ascending
  float* pick_weights = scratch.take<float>(args.rows * top_k);  // [R, top_k]
  int32_t* expert_rows = scratch.take<int32_t>(args.rows);       // rows that picked the current expert
  float* row_weights = scratch.take<float>(args.rows);
  float* gathered = scratch.take<float>(2 * args.rows * hidden);  // inputs, then outputs of those rows
  float* act = scratch.take<float>(2 * args.rows * width);

  norm_rows(pool, {args.x, args.rows, hidden}, args.norm, hidden, normed);
  linear(pool, {normed, args.rows, hidden}, *args.gate_weight, 0, row_scratch,
         {logits, args.gate.experts, false});
  for (int64_t r = 0; r < args.rows; ++r) {
    gate_select(args.gate, logits + r * args.gate.experts, args.gate_bias, scores,
                {picked + r * top_k, static_cast<size_t>(top_k)},
                {pick_weights + r * top_k, static_cast<size_t>(top_k)});
  }

  for (int64_t e = 0; e < args.gate_up->batch; ++e) {
    int64_t count = 0;
    for (int64_t i = 0; i < args.rows * top_k; ++i) {
      if (picked[i] != args.first_expert + e) continue;
      expert_rows[count] = static_cast<int32_t>(i / top_k);
      row_weights[count] = pick_weights[i];
      std::memcpy(gathered + count * hidden, normed + i / top_k * hidden,
                  static_cast<size_t>(hidden) * sizeof(float));
      ++count;
    }
    if (count == 0) continue;
    float* result = gathered + args.rows * hidden;
    linear(pool, {gathered, count, hidden}, *args.gate_up, e, row_scratch, {act, 2 * width, false});
    swiglu_rows(pool, act, count, width);
    linear(pool, {act, count, 2 * width}, *args.down, e, row_scratch, {result, hidden, false});
    for (int64_t i = 0; i < count; ++i) {
      float* out = args.out + expert_rows[i] * hidden;
      for (int64_t d = 0; d < hidden; ++d) out[d] += row_weights[i] * result[i * hidden + d];
    }
  }

  if (shared_width > 0) {
    linear(pool, {normed, args.rows, hidden}, *args.shared_gate_up, 0, row_scratch,
           {shared_act, 2 * shared_width, false});
    swiglu_rows(pool, shared_act, args.rows, shared_width);
    linear(pool, {shared_act, args.rows, 2 * shared_width}, *args.shared_down, 0, row_scratch,
           {args.out, hidden, true});
  }
}

}  // namespace gantry::reference

// embed, norm_linear, qkv_project, attend, mlp and head.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/rows.h"

namespace gantry::cuda {

void embed(const OpContext& context, const EmbedArgs& args) {
  State& state = state_of(context);
  const DTypeInfo& info = dtype_info(args.table.dtype);
  const int64_t hidden = args.table.shape[1];
  state.note(launch_embed({.ids = state.step().ids,
                           .table = args.table.as<uint8_t>(),
                           .dtype = args.table.dtype,
                           .block_elements = info.block_elements,
                           .block_bytes = info.block_bytes,
                           .row_bytes = row_bytes(args.table.dtype, hidden),
                           .hidden = hidden,
                           .out = args.out},
                          static_cast<int64_t>(args.ids.size()), state.stream()));
}

void norm(const OpContext& context, const NormArgs& args) {
  State& state = state_of(context);
  state.note(launch_norm_rows({.x = args.x,
                               .stride = args.width,
                               .index = args.index != nullptr ? state.step().logit_rows : nullptr,
                               .cols = args.width,
                               .weight = args.norm.weight,
                               .eps = args.norm.eps,
                               .f32 = args.out,
                               .f32_stride = args.out_stride,
                               .bf16 = nullptr,
                               .bf16_stride = 0},
                              args.rows, state.stream()));
}

void norm_linear(const OpContext& context, const NormLinearArgs& args) {
  State& state = state_of(context);
  Scratch scratch(context.scratch);
  const int64_t cols = args.weight->cols;
  const ReadyRows x = ready_rows(
      state, scratch, {.x = args.x, .rows = args.rows, .cols = cols, .stride = cols, .norm = args.norm},
      *args.weight);
  linear(state, x, *args.weight, {args.out, args.weight->rows, args.accumulate});
}

void qkv_project(const OpContext& context, const QkvProjectArgs& args) {
  State& state = state_of(context);
  norm_linear(context,
              {.x = args.x, .rows = args.rows, .norm = args.norm, .weight = args.weight, .out = args.qkv});
  state.note(launch_deliver_qkv(state,
                                {.qkv = args.qkv,
                                 .q = args.q,
                                 .heads = args.heads,
                                 .head_dim = args.head_dim,
                                 .pairs = args.rope.pairs,
                                 .interleaved = args.rope.interleaved,
                                 .kv = args.kv},
                                args.rows));
}

void attend(const OpContext& context, const AttendArgs& args) {
  State& state = state_of(context);
  Scratch scratch(context.scratch);
  state.note(launch_attention(state, {.q = args.q,
                                      .rows = args.rows,
                                      .heads = args.heads,
                                      .value_dim = args.kv.layout.value_dim,
                                      .scale = args.scale,
                                      .kv = args.kv,
                                      .out = args.out,
                                      .partial = scratch.take<float>(kAttentionPartialFloatsMax)}));
}

void mlp(const OpContext& context, const MlpArgs& args) {
  State& state = state_of(context);
  Scratch scratch(context.scratch);
  const int64_t hidden = args.gate_up->cols;
  const ReadyRows x = ready_rows(
      state, scratch, {.x = args.x, .rows = args.rows, .cols = hidden, .stride = hidden, .norm = args.norm},
      *args.gate_up);
  const ReadyRows h = gate_up_linear(state, scratch, x, *args.gate_up, *args.down, args.workspace);
  linear(state, h, *args.down, {args.out, args.down->rows, args.accumulate});
}

void head(const OpContext& context, const HeadArgs& args) {
  State& state = state_of(context);
  Scratch scratch(context.scratch);
  const int64_t hidden = args.weight->cols;
  const ReadyRows x = ready_rows(state, scratch,
                                 {.x = args.x,
                                  .rows = static_cast<int64_t>(args.rows.size()),
                                  .cols = hidden,
                                  .stride = hidden,
                                  .index = state.step().logit_rows,
                                  .norm = args.norm},
                                 *args.weight);
  linear(state, x, *args.weight, {state.take_logits(x.rows, args.weight->rows), args.weight->rows, false});
}

}  // namespace gantry::cuda

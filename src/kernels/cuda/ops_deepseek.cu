// mla_project, mla_attend and moe.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/experts_fp8.h"
#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/mla_prefill.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/routing.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/sm90/decode_gemm_launch.h"
#include "kernels/cuda/sm90/mla_decode_launch.h"
#include "kernels/cuda/tile_gemm.h"
#include "kernels/cuda/weight_layout.h"

namespace gantry::cuda {
namespace {

struct TurnBuffers {
  float* logits;  // [rows, experts]
  Routing routing;
  float* h;  // [slots, 2 width]
  float* y;  // [slots, hidden]
};

size_t turn_bytes(int64_t rows, int64_t picks, int64_t experts, int64_t width, int64_t hidden) {
  const int64_t slots = rows * picks;
  return Scratch::size_of<float>(rows * experts) + 3 * Scratch::size_of<int32_t>(slots) +
         Scratch::size_of<float>(slots) + Scratch::size_of<int32_t>(experts + 1) +
         Scratch::size_of<float>(slots * 2 * width) + Scratch::size_of<float>(slots * hidden);
}

TurnBuffers take_turn(Scratch& scratch, int64_t rows, const MoeArgs& args) {
  const int64_t slots = rows * args.gate.experts_per_token;
  return {.logits = scratch.take<float>(rows * args.gate.experts),
          .routing = {.ids = scratch.take<int32_t>(slots),
                      .weights = scratch.take<float>(slots),
                      .slot_of = scratch.take<int32_t>(slots),
                      .token_of = scratch.take<int32_t>(slots),
                      .offsets = scratch.take<int32_t>(args.gate.experts + 1)},
          .h = scratch.take<float>(slots * 2 * args.down->cols),
          .y = scratch.take<float>(slots * args.hidden)};
}

// A weight of one part, for the tile GEMM.
TileGemmParams weight_of(const PackedWeight& weight, TileGemmParams params) {
  const PackedWeight::Part& part = weight.parts[0];
  params.weight = part.data;
  params.bf16 = part.dtype == DType::kBF16;
  params.weight_stride = row_stride(part.dtype, weight.cols);
  params.weight_entry_stride = part.batch_stride / dtype_info(part.dtype).block_bytes;
  params.n = part.rows;
  params.k = weight.cols;
  params.entries = weight.batch;
  return params;
}

// Products of all experts' parts: each expert's slots times its part of `weight`.
void expert_linear(State& state, const TurnBuffers& turn, const float* x, int64_t x_stride,
                   const int32_t* x_rows, const PackedWeight& weight, float* out) {
  int64_t column = 0;
  for (int i = 0; i < weight.part_count; ++i) {
    const PackedWeight::Part& part = weight.parts[static_cast<size_t>(i)];
    state.note(
        launch_tile_gemm({.x = x,
                          .x_stride = x_stride,
                          .x_rows = x_rows,
                          .weight = part.data,
                          .bf16 = part.dtype == DType::kBF16,
                          .weight_stride = row_stride(part.dtype, weight.cols),
                          .weight_entry_stride = part.batch_stride / dtype_info(part.dtype).block_bytes,
                          .offsets = turn.routing.offsets,
                          .n = part.rows,
                          .k = weight.cols,
                          .entries = weight.batch,
                          .out = out + column,
                          .out_stride = weight.rows},
                         state.stream()));
    column += part.rows;
  }
}

void routed_experts(State& state, Scratch scratch, const MoeArgs& args, const float* normed, int64_t rows,
                    float* out) {
  const TurnBuffers turn = take_turn(scratch, rows, args);
  const int64_t hidden = args.hidden, width = args.down->cols;
  const int64_t slots = rows * args.gate.experts_per_token;
  state.note(launch_gate_logits({.x = normed,
                                 .weight = static_cast<const float*>(args.gate_weight->parts[0].data),
                                 .hidden = hidden,
                                 .experts = args.gate.experts,
                                 .logits = turn.logits},
                                rows, state.stream()));
  const GateArgs gate{turn.logits, args.gate_bias, args.gate, turn.routing};
  state.note(launch_gate(gate, rows, state.stream()));
  state.note(launch_sort_picks(gate, rows, state.stream()));
  expert_linear(state, turn, normed, hidden, turn.routing.token_of, *args.gate_up, turn.h);
  state.note(launch_swiglu({.gate_up = turn.h, .width = width, .f32 = turn.h, .f32_stride = 2 * width}, slots,
                           state.stream()));
  expert_linear(state, turn, turn.h, 2 * width, nullptr, *args.down, turn.y);
  state.note(
      launch_combine({turn.y, out, hidden, args.gate.experts_per_token, turn.routing}, rows, state.stream()));
}

// R1's latents in bf16: attention on the matrix units (mla_prefill.h).
// w: W_UK or W_UV, which are of one type.
bool on_matrix_units(const PackedWeight& w, const KvView& kv, int32_t latent) {
  return w.part_count == 1 && w.parts[0].dtype == DType::kBF16 && kv.layout.dtype == DType::kBF16 &&
         latent == sm90::kMlaValue && kv.layout.key_dim == sm90::kMlaKey && kv.blocks > 0;
}

// Per head: out[r, h] = W_h x[r, h], rows of all heads side by side. Padding of W's rows meets what follows in x with
// zeros.
struct HeadProducts {
  const PackedWeight* weight;  // bf16, batch = heads
  const __nv_bfloat16* x;
  int32_t x_step, out_step;  // columns from one head to the next
  __nv_bfloat16* out;        // or out_f32
  float* out_f32;
};
Status head_products(State& state, const HeadProducts& p, int64_t rows) {
  const PackedWeight& weight = *p.weight;
  const auto heads = static_cast<int>(weight.batch);
  const sm90::DecodeGemmShape shape{.m = static_cast<int>(rows),
                                    .n = static_cast<int>(round_up(weight.rows, kBf16RowsAlign)),
                                    .k = static_cast<int>(row_stride(DType::kBF16, weight.cols)),
                                    .type = sm90::GemmType::kBf16,
                                    .batch = heads};
  GANTRY_ASSIGN_OR_RETURN(
      sm90::DecodeGemmArgs gemm,
      sm90::plan_decode_gemm(shape, sm90::choose_row_invariant_gemm(shape, state.sm_count()),
                             weight.parts[0].data, p.x, static_cast<int>(rows),
                             {.count = heads,
                              .x_cols = heads * p.x_step,
                              .x_step = p.x_step,
                              .out_stride = heads * p.out_step,
                              .out_step = p.out_step}));
  gemm.n_out = static_cast<int>(weight.rows);
  gemm.out = p.out;
  gemm.out_f32 = p.out_f32;
  return sm90::launch_decode_gemm(gemm, state.stream());
}

Status decode_attention(State& state, const MlaAttendArgs& args, RowRun run, float* partial) {
  const DeviceStep& step = state.step();
  sm90::MlaDecodeArgs attention{};
  attention.shape = {static_cast<int>(run.rows), args.heads, static_cast<int>(step.context)};
  attention.config = sm90::choose_mla_decode(attention.shape, state.sm_count());
  const int64_t heads = run.rows * args.heads, first = run.first_row * args.heads;
  while (attention.config.splits > 1 &&
         attention.config.splits * heads * (sm90::kMlaValue + 1) > kAttentionPartialFloatsMax) {
    --attention.config.splits;
  }
  attention.q = reinterpret_cast<const __nv_bfloat16*>(args.q) + first * sm90::kMlaKey;
  attention.cache = static_cast<const __nv_bfloat16*>(args.kv.base);
  attention.cache_blocks = args.kv.blocks;
  attention.block_table = step.tables;
  attention.table_stride = step.table_stride;
  attention.table_of = step.segments + run.first_row;
  attention.lengths = step.lengths + run.first_row;
  attention.scale = args.scale;
  attention.partial = partial;
  attention.partial_lse = partial + attention.config.splits * heads * sm90::kMlaValue;
  attention.out = reinterpret_cast<__nv_bfloat16*>(args.attended) + first * sm90::kMlaValue;
  GANTRY_RETURN_IF_ERROR(sm90::plan_mla_decode(attention));
  return sm90::launch_mla_decode(attention, state.stream());
}

}  // namespace

void mla_project(const OpContext& context, const MlaProjectArgs& args) {
  State& state = state_of(context);
  const int64_t hidden = args.q_a_kv_a->cols;
  const int64_t a_width = int64_t{args.q_lora} + args.latent + args.rope_dim;
  const int64_t head_width = int64_t{args.nope} + args.rope_dim,
                key_width = int64_t{args.latent} + args.rope_dim;
  float* a = args.workspace;             // [R, q_lora + latent + rope]
  float* q_b = a + args.rows * a_width;  // [R, heads, nope + rope]
  const RowSource input{.x = args.x, .rows = args.rows, .cols = hidden, .stride = hidden, .norm = args.norm};
  {
    Scratch scratch(context.scratch);
    linear(state, ready_rows(state, scratch, input, *args.q_a_kv_a), *args.q_a_kv_a, {a, a_width, false});
  }
  Scratch scratch(context.scratch);
  const RowSource q_input = args.q_lora > 0 ? RowSource{.x = a,
                                                        .rows = args.rows,
                                                        .cols = args.q_lora,
                                                        .stride = a_width,
                                                        .norm = args.q_a_norm}
                                            : input;
  const bool fast = on_matrix_units(*args.w_uk, args.kv, args.latent);
  const int64_t q_width = args.heads * head_width;
  const ReadyRows ready = ready_rows(state, scratch, q_input, *args.q_b);
  __nv_bfloat16* q_b16 = fast ? plain_queries(args.q, args.rows, args.heads) : nullptr;
  const bool direct = fast && writes_bf16(*args.q_b);
  linear(state, ready, *args.q_b, {.data = q_b, .stride = q_width, .bf16 = direct ? q_b16 : nullptr});
  if (fast && !direct) {
    state.note(launch_norm_rows({.x = q_b,
                                 .stride = q_width,
                                 .index = nullptr,
                                 .cols = q_width,
                                 .weight = nullptr,
                                 .eps = 0,
                                 .f32 = nullptr,
                                 .bf16 = q_b16,
                                 .bf16_stride = q_width},
                                args.rows, state.stream()));
  }
  state.note(launch_deliver_mla(state,
                                {.a = a,
                                 .a_stride = a_width,
                                 .a_first = args.q_lora,
                                 .norm = args.kv_a_norm,
                                 .q_b = fast ? static_cast<const void*>(q_b16) : q_b,
                                 .q = args.q,
                                 .q_dtype = fast ? DType::kBF16 : DType::kF32,
                                 .heads = args.heads,
                                 .latent = args.latent,
                                 .nope = args.nope,
                                 .rope_dim = args.rope_dim,
                                 .pairs = args.rope.pairs,
                                 .interleaved = args.rope.interleaved,
                                 .kv = args.kv},
                                args.rows));
  if (fast) {
    const PrefillHeads dims{args.heads, args.nope, args.rope_dim};
    for_each_run(args.segments, dims, [&](RowRun run) {
      __nv_bfloat16* plain = q_b16 + run.first_row * q_width;
      if (run.prefill) return state.note(rope_prefill_queries(state, plain, run, args));
      state.note(head_products(
          state,
          {.weight = args.w_uk,
           .x = plain,
           .x_step = static_cast<int32_t>(head_width),
           .out_step = static_cast<int32_t>(key_width),
           .out = reinterpret_cast<__nv_bfloat16*>(args.q) + run.first_row * args.heads * key_width,
           .out_f32 = nullptr},
          run.rows));
    });
    return;
  }
  state.note(launch_tile_gemm(weight_of(*args.w_uk, {.x = q_b,
                                                     .x_stride = args.heads * head_width,
                                                     .x_entry_step = head_width,
                                                     .rows = args.rows,
                                                     .out = args.q,
                                                     .out_stride = args.heads * key_width,
                                                     .out_entry_step = key_width}),
                              state.stream()));
}

void mla_attend(const OpContext& context, const MlaAttendArgs& args) {
  State& state = state_of(context);
  Scratch scratch(context.scratch);
  if (on_matrix_units(*args.w_uv, args.kv, args.latent)) {
    const PrefillHeads dims = prefill_heads(args);
    float* partial = scratch.take<float>(kAttentionPartialFloatsMax);
    for_each_run(args.segments, dims, [&](RowRun run) {
      if (run.prefill) return;
      state.note(decode_attention(state, args, run, partial));
      const int64_t heads = run.first_row * args.heads;
      state.note(
          head_products(state,
                        {.weight = args.w_uv,
                         .x = reinterpret_cast<const __nv_bfloat16*>(args.attended) + heads * args.latent,
                         .x_step = args.latent,
                         .out_step = args.value_dim,
                         .out = nullptr,
                         .out_f32 = args.out + heads * args.value_dim},
                        run.rows));
    });
    state.note(prefill_attention(state, context.scratch, args));
    return;
  }
  state.note(launch_attention(state, {.q = args.q,
                                      .rows = args.rows,
                                      .heads = args.heads,
                                      .value_dim = args.latent,
                                      .value_is_key = true,
                                      .scale = args.scale,
                                      .kv = args.kv,
                                      .out = args.attended,
                                      .partial = scratch.take<float>(kAttentionPartialFloatsMax)}));
  state.note(launch_tile_gemm(weight_of(*args.w_uv, {.x = args.attended,
                                                     .x_stride = int64_t{args.heads} * args.latent,
                                                     .x_entry_step = args.latent,
                                                     .rows = args.rows,
                                                     .out = args.out,
                                                     .out_stride = int64_t{args.heads} * args.value_dim,
                                                     .out_entry_step = args.value_dim}),
                              state.stream()));
}

void moe(const OpContext& context, const MoeArgs& args) {
  State& state = state_of(context);
  const int64_t hidden = args.hidden;
  float* normed = args.workspace;                   // [R, H]
  float* shared_act = normed + args.rows * hidden;  // [R, 2 shared width]
  const bool fp8 = takes_fp8_experts(args);
  // The shared expert reads what the routed ones may add to: args.x and args.out can be one.
  if (!fp8) {
    state.note(launch_norm_rows({.x = args.x,
                                 .stride = hidden,
                                 .index = nullptr,
                                 .cols = hidden,
                                 .weight = args.norm.weight,
                                 .eps = args.norm.eps,
                                 .f32 = normed},
                                args.rows, state.stream()));
  }
  if (!fp8 && args.gate_up->parts[0].dtype == DType::kF8E4M3) {
    return state.note(unimplemented("FP8 experts: " + std::to_string(args.gate.experts_per_token) +
                                    " a token; the CUDA backend supports 16"));
  }
  const int64_t turn = fp8 ? fp8_expert_turn(args.rows) : routing_rows(args.gate.experts_per_token);
  for (int64_t first = 0; first < args.rows; first += turn) {
    const int64_t rows = args.rows - first < turn ? args.rows - first : turn;
    if (fp8) {
      fp8_experts(state, Scratch(context.scratch), args, first, rows, normed);
    } else {
      routed_experts(state, Scratch(context.scratch), args, normed + first * hidden, rows,
                     args.out + first * hidden);
    }
  }
  if (args.shared_down == nullptr) return;
  Scratch scratch(context.scratch);
  const ReadyRows x =
      ready_rows(state, scratch, {.x = normed, .rows = args.rows, .cols = hidden, .stride = hidden},
                 *args.shared_gate_up);
  const ReadyRows h = gate_up_linear(state, scratch, x, *args.shared_gate_up, *args.shared_down, shared_act);
  linear(state, h, *args.shared_down, {args.out, hidden, true});
}

size_t scratch_bytes(const ScratchSpec& spec) {
  const size_t rows = 2 * ready_rows_bytes(spec.rows_max, spec.width_max);
  const size_t head = ready_rows_bytes(spec.logit_rows_max, spec.width_max);
  size_t experts = 0;
  if (spec.experts > 0) {
    experts = turn_bytes(routing_rows(spec.experts_per_token), spec.experts_per_token, spec.experts,
                         spec.expert_width, spec.width_max);
    const size_t fp8 = fp8_experts_bytes(spec);
    experts = experts > fp8 ? experts : fp8;
  }
  size_t attention = Scratch::size_of<float>(kAttentionPartialFloatsMax);
  const size_t prefill = prefill_attention_bytes(spec);
  attention = attention > prefill ? attention : prefill;
  size_t most = rows > head ? rows : head;
  most = most > experts ? most : experts;
  return most > attention ? most : attention;
}

}  // namespace gantry::cuda

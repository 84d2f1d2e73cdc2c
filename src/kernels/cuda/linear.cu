#include "kernels/cuda/linear.h"
#include "kernels/cuda/sm90/decode_gemm_launch.h"
#include "kernels/cuda/sm90/prefill_gemm_launch.h"
#include "kernels/cuda/tile_gemm.h"
#include "kernels/cuda/weight_layout.h"

namespace gantry::cuda {
namespace {

// Rows of a bf16 buffer: what a box of the GEMM may read.
int64_t padded_rows(int64_t rows) { return round_up(rows, 128); }

bool has_part(const PackedWeight& weight, DType dtype) {
  for (int i = 0; i < weight.part_count; ++i) {
    if (weight.parts[static_cast<size_t>(i)].dtype == dtype) return true;
  }
  return false;
}

sm90::PrefillGemmShape prefill_shape(const ReadyRows& x, const PackedWeight& weight,
                                     const PackedWeight::Part& part, bool swiglu) {
  return {.m = static_cast<int>(x.rows),
          .n = static_cast<int>(part.rows),
          .k = static_cast<int>(weight.cols),
          .swiglu = swiglu};
}

Result<sm90::PrefillGemmArgs> prefill_args(State& state, const ReadyRows& x, const PackedWeight::Part& part,
                                           const sm90::PrefillGemmShape& shape) {
  GANTRY_ASSIGN_OR_RETURN(
      sm90::PrefillGemmArgs args,
      sm90::plan_prefill_gemm(shape, sm90::choose_prefill_gemm(shape, state.sm_count()), part.data,
                              x.fp8.codes, static_cast<int>(padded_rows(x.rows))));
  args.weight_scale = part.scales;
  args.x_scale = x.fp8.scales;
  args.x_scale_stride = static_cast<int>(x.fp8.scale_stride);
  return args;
}

// Many rows in FP8.
Status prefill_product(State& state, const ReadyRows& x, const PackedWeight::Part& part,
                       const sm90::PrefillGemmShape& shape, const LinearOut& out, int64_t column) {
  GANTRY_ASSIGN_OR_RETURN(sm90::PrefillGemmArgs args, prefill_args(state, x, part, shape));
  args.out_stride = out.stride;
  args.accumulate = out.accumulate;
  if (out.bf16 != nullptr) {
    args.out = out.bf16 + column;
  } else {
    args.out_f32 = out.data + column;
  }
  return sm90::launch_prefill_gemm(args, state.sm_count(), state.stream());
}

// On the matrix units. `column`: of out, where the part begins.
Status wgmma_product(State& state, const ReadyRows& x, const PackedWeight& weight,
                     const PackedWeight::Part& part, const LinearOut& out, int64_t column) {
  const bool fp8 = part.dtype == DType::kF8E4M3;
  if (const sm90::PrefillGemmShape many = prefill_shape(x, weight, part, false);
      fp8 && sm90::takes_prefill_gemm(many)) {
    return prefill_product(state, x, part, many, out, column);
  }
  sm90::DecodeGemmShape shape{.m = static_cast<int>(x.rows),
                              .n = static_cast<int>(fp8 ? part.rows : round_up(part.rows, kBf16RowsAlign)),
                              .k = static_cast<int>(fp8 ? weight.cols : x.bf16_stride),
                              .type = fp8 ? sm90::GemmType::kE4m3 : sm90::GemmType::kBf16};
  const sm90::DecodeGemmConfig config = sm90::choose_row_invariant_gemm(shape, state.sm_count());
  const void* rows = fp8 ? static_cast<const void*>(x.fp8.codes) : x.bf16;
  GANTRY_ASSIGN_OR_RETURN(
      sm90::DecodeGemmArgs args,
      sm90::plan_decode_gemm(shape, config, part.data, rows, static_cast<int>(padded_rows(x.rows)),
                             {.out_stride = static_cast<int>(out.stride)}));
  if (out.bf16 != nullptr) {
    args.out = out.bf16 + column;
  } else {
    args.out_f32 = out.data + column;
  }
  args.weight_scale = part.scales;
  args.x_scale = x.fp8.scales;
  args.x_scale_stride = static_cast<int>(x.fp8.scale_stride);
  args.n_out = static_cast<int>(part.rows);
  args.bias = part.bias;
  args.accumulate = out.accumulate;
  return sm90::launch_decode_gemm(args, state.stream());
}

}  // namespace

size_t ready_rows_bytes(int64_t rows, int64_t cols) {
  return Scratch::size_of<float>(rows * cols) +
         Scratch::size_of<__nv_bfloat16>(padded_rows(rows) * row_stride(DType::kBF16, cols)) +
         Scratch::size_of<uint8_t>(padded_rows(rows) * cols) +
         Scratch::size_of<float>(padded_rows(rows) * scale_blocks(cols));
}

ReadyRows take_ready_rows(Scratch& scratch, int64_t rows, int64_t cols, const PackedWeight& weight) {
  ReadyRows ready{.rows = rows};
  if (has_part(weight, DType::kF32)) {
    ready.f32 = scratch.take<float>(rows * cols);
    ready.f32_stride = cols;
  }
  if (has_part(weight, DType::kBF16)) {
    ready.bf16_stride = row_stride(DType::kBF16, cols);
    ready.bf16 = scratch.take<__nv_bfloat16>(padded_rows(rows) * ready.bf16_stride);
  }
  if (has_part(weight, DType::kF8E4M3)) {
    ready.fp8 = {.codes = scratch.take<uint8_t>(padded_rows(rows) * cols),
                 .scales = scratch.take<float>(padded_rows(rows) * scale_blocks(cols)),
                 .scale_stride = padded_rows(rows)};
  }
  return ready;
}

ReadyRows ready_rows(State& state, Scratch& scratch, const RowSource& source, const PackedWeight& weight) {
  const bool as_it_is = source.norm.weight == nullptr && source.index == nullptr;
  if (as_it_is && !has_part(weight, DType::kBF16) && !has_part(weight, DType::kF8E4M3)) {
    return {.f32 = source.x, .f32_stride = source.stride, .rows = source.rows};
  }
  const ReadyRows ready = take_ready_rows(scratch, source.rows, source.cols, weight);
  if (ready.fp8.codes != nullptr) {
    state.note(launch_quantize_rows({.x = source.x,
                                     .stride = source.stride,
                                     .index = source.index,
                                     .cols = source.cols,
                                     .weight = source.norm.weight,
                                     .eps = source.norm.eps,
                                     .out = ready.fp8},
                                    source.rows, state.stream()));
    if (ready.f32 == nullptr && ready.bf16 == nullptr) return ready;
  }
  state.note(launch_norm_rows({.x = source.x,
                               .stride = source.stride,
                               .index = source.index,
                               .cols = source.cols,
                               .weight = source.norm.weight,
                               .eps = source.norm.eps,
                               .f32 = const_cast<float*>(ready.f32),
                               .bf16 = ready.bf16,
                               .bf16_stride = ready.bf16_stride},
                              source.rows, state.stream()));
  return ready;
}

ReadyRows gate_up_linear(State& state, Scratch& scratch, const ReadyRows& x, const PackedWeight& gate_up,
                         const PackedWeight& down, float* workspace) {
  const int64_t width = down.cols;
  const ReadyRows ready = take_ready_rows(scratch, x.rows, width, down);
  const PackedWeight::Part& part = gate_up.parts[0];
  const bool fp8_alone = ready.fp8.codes != nullptr && ready.f32 == nullptr && ready.bf16 == nullptr;
  if (const sm90::PrefillGemmShape shape = prefill_shape(x, gate_up, part, true);
      fp8_alone && gate_up.part_count == 1 && part.dtype == DType::kF8E4M3 &&
      sm90::takes_prefill_gemm(shape)) {
    Result<sm90::PrefillGemmArgs> args = prefill_args(state, x, part, shape);
    if (args.ok()) {
      args->codes = ready.fp8.codes;
      args->code_scale = ready.fp8.scales;
      args->code_scale_stride = static_cast<int>(ready.fp8.scale_stride);
    }
    state.note(args.ok() ? sm90::launch_prefill_gemm(*args, state.sm_count(), state.stream())
                         : args.status());
    return ready;
  }
  linear(state, x, gate_up, {workspace, 2 * width, false});
  if (ready.fp8.codes != nullptr) {
    state.note(launch_swiglu_quantize(workspace, width, ready.fp8, x.rows, state.stream()));
    if (fp8_alone) return ready;
  }
  state.note(launch_swiglu({.gate_up = workspace,
                            .width = width,
                            .f32 = const_cast<float*>(ready.f32),
                            .f32_stride = ready.f32_stride,
                            .bf16 = ready.bf16,
                            .bf16_stride = ready.bf16_stride},
                           x.rows, state.stream()));
  return ready;
}

bool writes_bf16(const PackedWeight& weight) { return !has_part(weight, DType::kF32); }

void linear(State& state, const ReadyRows& x, const PackedWeight& weight, const LinearOut& out) {
  int64_t column = 0;
  for (int i = 0; i < weight.part_count; ++i) {
    const PackedWeight::Part& part = weight.parts[static_cast<size_t>(i)];
    if (part.dtype != DType::kF32) {
      state.note(wgmma_product(state, x, weight, part, out, column));
    } else {
      state.note(launch_tile_gemm({.x = x.f32,
                                   .x_stride = x.f32_stride,
                                   .weight = part.data,
                                   .weight_stride = row_stride(part.dtype, weight.cols),
                                   .rows = x.rows,
                                   .n = part.rows,
                                   .k = weight.cols,
                                   .out = out.data + column,
                                   .out_stride = out.stride,
                                   .bias = part.bias,
                                   .accumulate = out.accumulate},
                                  state.stream()));
    }
    column += part.rows;
  }
}

}  // namespace gantry::cuda

#include "kernels/cuda/linear.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/sm90/decode_gemm_launch.h"
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

Status bf16_product(State& state, const ReadyRows& x, const PackedWeight::Part& part, float* out,
                    int64_t stride, bool accumulate) {
  sm90::DecodeGemmShape shape{.m = static_cast<int>(x.rows),
                              .n = static_cast<int>(round_up(part.rows, kBf16RowsAlign)),
                              .k = static_cast<int>(x.bf16_stride),
                              .type = sm90::GemmType::kBf16};
  const sm90::DecodeGemmConfig config = sm90::choose_row_invariant_gemm(shape, state.sm_count());
  GANTRY_ASSIGN_OR_RETURN(
      sm90::DecodeGemmArgs args,
      sm90::plan_decode_gemm(shape, config, part.data, x.bf16, static_cast<int>(padded_rows(x.rows)),
                             {.out_stride = static_cast<int>(stride)}));
  args.out_f32 = out;
  args.n_out = static_cast<int>(part.rows);
  args.bias = part.bias;
  args.accumulate = accumulate;
  return sm90::launch_decode_gemm(args, state.stream());
}

}  // namespace

size_t ready_rows_bytes(int64_t rows, int64_t cols) {
  return Scratch::size_of<float>(rows * cols) +
         Scratch::size_of<__nv_bfloat16>(padded_rows(rows) * row_stride(DType::kBF16, cols)) + 1024;
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
  return ready;
}

ReadyRows ready_rows(State& state, Scratch& scratch, const RowSource& source, const PackedWeight& weight) {
  const bool as_it_is = source.norm.weight == nullptr && source.index == nullptr;
  if (as_it_is && !has_part(weight, DType::kBF16)) {
    return {.f32 = source.x, .f32_stride = source.stride, .rows = source.rows};
  }
  const ReadyRows ready = take_ready_rows(scratch, source.rows, source.cols, weight);
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

void linear(State& state, const ReadyRows& x, const PackedWeight& weight, const LinearOut& out) {
  float* to = out.data;
  for (int i = 0; i < weight.part_count; ++i) {
    const PackedWeight::Part& part = weight.parts[static_cast<size_t>(i)];
    if (part.dtype == DType::kBF16) {
      state.note(bf16_product(state, x, part, to, out.stride, out.accumulate));
    } else {
      state.note(launch_tile_gemm({.x = x.f32,
                                   .x_stride = x.f32_stride,
                                   .weight = part.data,
                                   .weight_stride = row_stride(part.dtype, weight.cols),
                                   .rows = x.rows,
                                   .n = part.rows,
                                   .k = weight.cols,
                                   .out = to,
                                   .out_stride = out.stride,
                                   .bias = part.bias,
                                   .accumulate = out.accumulate},
                                  state.stream()));
    }
    to += part.rows;
  }
}

}  // namespace gantry::cuda

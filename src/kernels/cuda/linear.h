// A stacked, packed weight times rows: the rows are made ready once, in the types that the parts want.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "kernels/cuda/rows.h"
#include "kernels/cuda/state.h"
#include "kernels/ops/packed_weight.h"
#include "kernels/ops/scratch.h"

namespace gantry::cuda {

struct RowSource {
  const float* x = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;              // of a row of x
  const int32_t* index = nullptr;  // device; which rows of x; null: all in order
  Norm norm{};
};

// Rows in the types that products read; [rows, cols] and [rows, bf16_stride].
struct ReadyRows {
  const float* f32 = nullptr;
  int64_t f32_stride = 0;
  __nv_bfloat16* bf16 = nullptr;
  int64_t bf16_stride = 0;
  QuantizedRows fp8{};
  int64_t rows = 0;
};

// Scratch that ready_rows() or take_ready_rows() takes.
size_t ready_rows_bytes(int64_t rows, int64_t cols);
// Normed or converted rows for the weight.
ReadyRows ready_rows(State& state, Scratch& scratch, const RowSource& source, const PackedWeight& weight);
// Room for rows that a kernel writes; which types the weight reads.
ReadyRows take_ready_rows(Scratch& scratch, int64_t rows, int64_t cols, const PackedWeight& weight);

// silu(gate) * up of x times `gate_up`, for the weight `down`; gate and up go through `workspace`, [rows, 2 down.cols],
// where no kernel takes both steps.
ReadyRows gate_up_linear(State& state, Scratch& scratch, const ReadyRows& x, const PackedWeight& gate_up,
                         const PackedWeight& down, float* workspace);

struct LinearOut {
  float* data = nullptr;  // [rows, stride]
  int64_t stride = 0;
  bool accumulate = false;
  __nv_bfloat16* bf16 = nullptr;  // instead of data, where the weight's parts are bf16 or FP8
};
// Whether linear() can write bf16.
bool writes_bf16(const PackedWeight& weight);
void linear(State& state, const ReadyRows& x, const PackedWeight& weight, const LinearOut& out);

}  // namespace gantry::cuda

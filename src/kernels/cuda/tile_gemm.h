// Products in f32 arithmetic on the ordinary cores, for any shape: f32 weights, experts that few rows pick, the heads
// of MLA. An output is one chain of fused multiply-adds over ascending k, whatever else is in the launch.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "base/status.h"

namespace gantry::cuda {

// out[r, n] (+)= sum_k x[r, k] W_e[n, k] + bias[n] for the rows of each entry e. Without offsets every entry has all
// `rows`, and its own columns of x and out; with them entry e has rows offsets[e] .. offsets[e + 1] - 1.
struct TileGemmParams {
  const float* x = nullptr;
  int64_t x_stride = 0;
  int64_t x_entry_step = 0;         // columns of x from one entry to the next
  const int32_t* x_rows = nullptr;  // row of x for each row of out; null: the same
  const void* weight = nullptr;     // f32 or bf16 [entries][n, weight_stride]
  bool bf16 = false;
  int64_t weight_stride = 0;
  int64_t weight_entry_stride = 0;  // elements
  const int32_t* offsets = nullptr;
  int64_t rows = 0;
  int64_t n = 0, k = 0;
  int64_t entries = 1;
  float* out = nullptr;
  int64_t out_stride = 0;
  int64_t out_entry_step = 0;
  const float* bias = nullptr;
  bool accumulate = false;
};
Status launch_tile_gemm(const TileGemmParams& params, cudaStream_t stream);

}  // namespace gantry::cuda

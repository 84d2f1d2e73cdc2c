// Host side of the decode GEMM (decode_gemm.h).
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "base/status.h"
#include "kernels/cuda/sm90/decode_gemm.h"

namespace gantry::sm90 {

// `count` products that differ in their weights [count, N, K] and lie side by side in the rows of x and out:
// the per-head W_UK and W_UV of MLA.
struct DecodeGemmBatch {
  int count = 1;
  int x_cols = 0;      // of a whole row of x; 0: K
  int x_step = 0;      // columns from one product's K to the next
  int out_stride = 0;  // of a whole row of out; 0: N
  int out_step = 0;    // columns from one product's N to the next
};

// Device pointers; the maps are encoded once per weight and per activation buffer.
struct DecodeGemmArgs {
  DecodeGemmShape shape;
  DecodeGemmConfig config;
  DecodeGemmBatch batch;
  CUtensorMap weight;                   // boxes of config.rows x 128 bytes
  CUtensorMap x;                        // boxes of config.tokens x 128 bytes; rows past M are read, not used
  const float* weight_scale = nullptr;  // e4m3: [ceil(N / 128), K / 128]
  const float* x_scale = nullptr;       // [K / 128, x_scale_stride]
  int x_scale_stride = 0;               // >= config.tokens, a multiple of 4
  __nv_bfloat16* out = nullptr;         // [M, N]; or out_f32
  float* out_f32 = nullptr;
  int n_out = 0;                // rows of W that are stored; 0: N
  const float* bias = nullptr;  // [n_out]
  bool accumulate = false;      // out_f32 += instead of =
};

// weight [N, K], x [rows_max, K] of the shape's type. More rows than config.tokens are as many launches side by side. Checks the shape; launches on the stream.
Result<DecodeGemmArgs> plan_decode_gemm(const DecodeGemmShape& shape, const DecodeGemmConfig& config,
                                        const void* weight, const void* x, int x_rows_max,
                                        const DecodeGemmBatch& batch = {});
Status launch_decode_gemm(const DecodeGemmArgs& args, cudaStream_t stream);

}  // namespace gantry::sm90

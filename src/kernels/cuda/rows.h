// Row-wise kernels: embedding, RMSNorm and conversion, SwiGLU.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "base/status.h"
#include "kernels/ops/args.h"

namespace gantry::cuda {

struct EmbedParams {
  const int32_t* ids;    // [rows]
  const uint8_t* table;  // [vocab, hidden] of dtype
  DType dtype;
  int block_elements, block_bytes;
  int64_t row_bytes;
  int64_t hidden;
  float* out;  // [rows, hidden]
};
Status launch_embed(const EmbedParams& params, int64_t rows, cudaStream_t stream);

// Each row normed (or as it is, without a weight), to f32 and to bf16, whichever is wanted. A row's sum has one order.
struct NormRowsParams {
  const float* x;
  int64_t stride;        // of a row of x
  const int32_t* index;  // which row of x; null: the same
  int64_t cols;
  const float* weight;  // [cols] or null
  float eps;
  float* f32;           // [rows, f32_stride] or null
  int64_t f32_stride;   // 0: cols
  __nv_bfloat16* bf16;  // [rows, bf16_stride] or null; columns past cols are set to 0
  int64_t bf16_stride;
};
Status launch_norm_rows(const NormRowsParams& params, int64_t rows, cudaStream_t stream);

// silu(gate) * up of rows [gate; up].
struct SwigluParams {
  const float* gate_up;  // [rows, 2 * width]
  int64_t width;
  float* f32;  // [rows, f32_stride] or null; may be gate_up's own rows
  int64_t f32_stride;
  __nv_bfloat16* bf16;  // [rows, bf16_stride] or null; columns past width are set to 0
  int64_t bf16_stride;
};
Status launch_swiglu(const SwigluParams& params, int64_t rows, cudaStream_t stream);

}  // namespace gantry::cuda

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
  const float* x = nullptr;
  int64_t stride = 0;              // of a row of x
  const int32_t* index = nullptr;  // which row of x; null: the same
  int64_t cols = 0;
  const float* weight = nullptr;  // [cols] or null
  float eps = 0;
  float* f32 = nullptr;           // [rows, f32_stride] or null
  int64_t f32_stride = 0;         // 0: cols
  __nv_bfloat16* bf16 = nullptr;  // [rows, bf16_stride] or null; columns past cols are set to 0
  int64_t bf16_stride = 0;
};
Status launch_norm_rows(const NormRowsParams& params, int64_t rows, cudaStream_t stream);

// FP8 activations (DeepSeek-V3, arXiv 2412.19437, section 3.3.2): e4m3 with one scale, amax / 448, per 1 x 128 group.
struct QuantizedRows {
  uint8_t* codes = nullptr;  // [rows, cols]
  float* scales = nullptr;   // [cols / 128, scale_stride]
  int64_t scale_stride = 0;
};
// NormRowsParams' rows, quantised; cols is a multiple of 128.
struct QuantizeRowsParams {
  const float* x = nullptr;
  int64_t stride = 0;
  const int32_t* index = nullptr;
  int64_t cols = 0;
  const float* weight = nullptr;
  float eps = 0;
  QuantizedRows out{};
  float* f32 = nullptr;  // [rows, cols] the same before it is quantised, or null
};
Status launch_quantize_rows(const QuantizeRowsParams& params, int64_t rows, cudaStream_t stream);

// silu(gate) * up of rows [gate; up].
struct SwigluParams {
  const float* gate_up = nullptr;  // [rows, 2 * width]
  int64_t width = 0;
  float* f32 = nullptr;  // [rows, f32_stride] or null; may be gate_up's own rows
  int64_t f32_stride = 0;
  __nv_bfloat16* bf16 = nullptr;  // [rows, bf16_stride] or null; columns past width are set to 0
  int64_t bf16_stride = 0;
};
// The same, quantised; width is a multiple of 128.
Status launch_swiglu_quantize(const float* gate_up, int64_t width, const QuantizedRows& out, int64_t rows,
                              cudaStream_t stream);
Status launch_swiglu(const SwigluParams& params, int64_t rows, cudaStream_t stream);

}  // namespace gantry::cuda

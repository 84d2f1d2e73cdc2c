// Activations to FP8: RMSNorm + quantise, and quantise alone, both with one f32 scale (amax / 448) per 1 x
// 128 group (model.md, FP8), scales stored k-block first: [width / 128, scale_stride].
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "base/status.h"

namespace gantry::sm90 {

struct NormQuantizeArgs {
  float* residual = nullptr;             // [M, width]; delta is added into it where there is one
  const __nv_bfloat16* delta = nullptr;  // [M, delta_stride] or null
  // Instead of residual: the first `width` of each row, bf16 (q_a, which no residual feeds).
  const __nv_bfloat16* x = nullptr;
  int x_stride = 0;
  const float* weight = nullptr;  // [width]
  float eps = 1e-6f;
  int rows = 0;
  int width = 0;           // a multiple of 128, at most 8192
  uint8_t* out = nullptr;  // e4m3 [M, width]
  float* scale = nullptr;  // [width / 128, scale_stride]
  int scale_stride = 0;
  __nv_bfloat16* normed = nullptr;  // [M, width] or null: the gate's input
};
Status launch_norm_quantize(const NormQuantizeArgs& args, cudaStream_t stream);

struct QuantizeArgs {
  const __nv_bfloat16* x = nullptr;  // [M, width]
  int rows = 0;
  int width = 0;  // a multiple of 128
  uint8_t* out = nullptr;
  float* scale = nullptr;
  int scale_stride = 0;
};
Status launch_quantize(const QuantizeArgs& args, cudaStream_t stream);

// gate_up [M, 2 * width] (gate first) to silu(gate) * up, quantised: the shared expert and dense layers.
Status launch_swiglu_quantize(const QuantizeArgs& args, cudaStream_t stream);

}  // namespace gantry::sm90

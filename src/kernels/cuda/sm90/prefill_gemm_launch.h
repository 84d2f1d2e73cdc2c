// Host side of the prefill GEMM (prefill_gemm.h).
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "base/status.h"
#include "kernels/cuda/sm90/prefill_gemm.h"

namespace gantry::sm90 {

// Up to kPrefillRows rows of one expert. The chunks of an expert follow each other.
struct PrefillChunk {
  int32_t expert;
  int32_t first_row;  // of x and out, a multiple of 4
  int32_t rows;
  int32_t first_chunk;  // of the expert, in the list
  int32_t chunks;       // of the expert
};

// Device pointers. A tile reads x_scale to the end of its rows: x_scale_stride is at least the rows rounded up to 128,
// or the last chunk's first row + 128.
struct PrefillGemmArgs {
  PrefillGemmShape shape;
  PrefillGemmConfig config;
  CUtensorMap weight, x;                 // set by plan_prefill_gemm
  const float* weight_scale = nullptr;   // [experts, ceil(n / 128), k / 128]
  const float* x_scale = nullptr;        // [k / 128, x_scale_stride]
  int x_scale_stride = 0;                // a multiple of 4
  const PrefillChunk* chunks = nullptr;  // null: one W and all m rows
  const int32_t* chunk_count = nullptr;
  int32_t* next_tile = nullptr;  // with chunks: 0 before the launch (prefill_routing.h)
  // One of: f32, bf16, and with swiglu e4m3 with its scales.
  float* out_f32 = nullptr;      // [m, out_stride]
  bool accumulate = false;       // out_f32 += instead of =
  __nv_bfloat16* out = nullptr;  // [m, out_stride]
  int64_t out_stride = 0;
  uint8_t* codes = nullptr;     // [m, n / 2]
  float* code_scale = nullptr;  // [n / 2 / 128, code_scale_stride]
  int code_scale_stride = 0;
};

// weight [experts, n, k], x [x_rows_max, k], both e4m3 on the device.
Result<PrefillGemmArgs> plan_prefill_gemm(const PrefillGemmShape& shape, const PrefillGemmConfig& config,
                                          const void* weight, const void* x, int x_rows_max);
Status launch_prefill_gemm(const PrefillGemmArgs& args, int sm_count, cudaStream_t stream);

}  // namespace gantry::sm90

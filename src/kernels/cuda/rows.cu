#include "kernels/cuda/dequantize.cuh"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/sm90/launch.h"
#include "kernels/cuda/sm90/ptx.cuh"

namespace gantry::cuda {
namespace {

using sm90::launch;
using sm90::let_next_kernel_start;
using sm90::wait_for_previous_kernel;

constexpr int kThreads = 256;

dim3 grid_of(int64_t rows) { return dim3(static_cast<unsigned>(rows), 1, 1); }

__global__ __launch_bounds__(kThreads) void embed_kernel(const __grid_constant__ EmbedParams p) {
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int64_t row = blockIdx.x;
  const uint8_t* from = p.table + p.ids[row] * p.row_bytes;
  for (int64_t i = threadIdx.x; i < p.hidden; i += kThreads) {
    p.out[row * p.hidden + i] = block_value(p.dtype, from + i / p.block_elements * p.block_bytes,
                                            static_cast<int>(i % p.block_elements));
  }
}

// Sum over the block, the same for every thread.
__device__ __forceinline__ float block_sum(float value) {
  __shared__ float warps[kThreads / 32];
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(~0u, value, step);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  float total = 0.0f;
#pragma unroll
  for (int w = 0; w < kThreads / 32; ++w) total += warps[w];
  return total;
}

__global__ __launch_bounds__(kThreads) void norm_rows_kernel(const __grid_constant__ NormRowsParams p) {
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int64_t row = blockIdx.x;
  const float* x = p.x + (p.index != nullptr ? p.index[row] : row) * p.stride;
  float factor = 1.0f;
  if (p.weight != nullptr) {
    float squares = 0.0f;
    for (int64_t i = threadIdx.x; i < p.cols; i += kThreads) squares = fmaf(x[i], x[i], squares);
    factor = 1.0f / sqrtf(block_sum(squares) / static_cast<float>(p.cols) + p.eps);
  }
  const int64_t cols = p.bf16 != nullptr ? p.bf16_stride : p.cols;
  for (int64_t i = threadIdx.x; i < cols; i += kThreads) {
    float value = i < p.cols ? x[i] : 0.0f;
    if (p.weight != nullptr && i < p.cols) value = value * factor * p.weight[i];
    if (p.bf16 != nullptr) p.bf16[row * p.bf16_stride + i] = __float2bfloat16_rn(value);
    if (p.f32 != nullptr && i < p.cols) p.f32[row * (p.f32_stride > 0 ? p.f32_stride : p.cols) + i] = value;
  }
}

__global__ __launch_bounds__(kThreads) void swiglu_kernel(const __grid_constant__ SwigluParams p) {
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int64_t row = blockIdx.y;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= (p.bf16 != nullptr ? p.bf16_stride : p.width)) return;
  float value = 0.0f;
  if (i < p.width) {
    const float gate = p.gate_up[row * 2 * p.width + i], up = p.gate_up[row * 2 * p.width + p.width + i];
    value = gate / (1.0f + expf(-gate)) * up;
  }
  if (p.bf16 != nullptr) p.bf16[row * p.bf16_stride + i] = __float2bfloat16_rn(value);
  if (p.f32 != nullptr && i < p.width) p.f32[row * p.f32_stride + i] = value;
}

}  // namespace

Status launch_embed(const EmbedParams& params, int64_t rows, cudaStream_t stream) {
  return launch(embed_kernel, {.grid = grid_of(rows), .threads = kThreads}, params, stream);
}

Status launch_norm_rows(const NormRowsParams& params, int64_t rows, cudaStream_t stream) {
  return launch(norm_rows_kernel, {.grid = grid_of(rows), .threads = kThreads}, params, stream);
}

Status launch_swiglu(const SwigluParams& params, int64_t rows, cudaStream_t stream) {
  const int64_t width = params.bf16 != nullptr ? params.bf16_stride : params.width;
  constexpr int64_t kRowsMax = 65535;  // of a grid's second dimension
  for (int64_t first = 0; first < rows; first += kRowsMax) {
    SwigluParams part = params;
    part.gate_up += first * 2 * params.width;
    if (part.f32 != nullptr) part.f32 += first * params.f32_stride;
    if (part.bf16 != nullptr) part.bf16 += first * params.bf16_stride;
    const dim3 grid(static_cast<unsigned>((width + kThreads - 1) / kThreads),
                    static_cast<unsigned>(rows - first < kRowsMax ? rows - first : kRowsMax), 1);
    GANTRY_RETURN_IF_ERROR(launch(swiglu_kernel, {.grid = grid, .threads = kThreads}, part, stream));
  }
  return {};
}

}  // namespace gantry::cuda

#include <cuda_fp8.h>

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

// What RMSNorm scales the row by; 1 without a norm. Params: weight, cols, eps.
template <typename Params>
__device__ __forceinline__ float norm_factor(const Params& p, const float* x) {
  if (p.weight == nullptr) return 1.0f;
  float squares = 0.0f;
  for (int64_t i = threadIdx.x; i < p.cols; i += kThreads) squares = fmaf(x[i], x[i], squares);
  return 1.0f / sqrtf(block_sum(squares) / static_cast<float>(p.cols) + p.eps);
}

__global__ __launch_bounds__(kThreads) void norm_rows_kernel(const __grid_constant__ NormRowsParams p) {
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int64_t row = blockIdx.x;
  const float* x = p.x + (p.index != nullptr ? p.index[row] : row) * p.stride;
  const float factor = norm_factor(p, x);
  const int64_t cols = p.bf16 != nullptr ? p.bf16_stride : p.cols;
  for (int64_t i = threadIdx.x; i < cols; i += kThreads) {
    float value = i < p.cols ? x[i] : 0.0f;
    if (p.weight != nullptr && i < p.cols) value = value * factor * p.weight[i];
    if (p.bf16 != nullptr) p.bf16[row * p.bf16_stride + i] = __float2bfloat16_rn(value);
    if (p.f32 != nullptr && i < p.cols) p.f32[row * (p.f32_stride > 0 ? p.f32_stride : p.cols) + i] = value;
  }
}

constexpr int kGroup = 128;

// A warp's 128 values, four a lane, to e4m3 and their scale.
__device__ __forceinline__ void store_group(const float4& v, const QuantizedRows& out, int64_t row,
                                            int64_t cols, int64_t group) {
  float most = fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w)));
#pragma unroll
  for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(~0u, most, step));
  const float scale = fmaxf(most, 1e-30f) / 448.0f, inverse = 1.0f / scale;
  const auto low = __nv_cvt_float2_to_fp8x2({v.x * inverse, v.y * inverse}, __NV_SATFINITE, __NV_E4M3);
  const auto high = __nv_cvt_float2_to_fp8x2({v.z * inverse, v.w * inverse}, __NV_SATFINITE, __NV_E4M3);
  const int lane = threadIdx.x % 32;
  *reinterpret_cast<uint32_t*>(out.codes + row * cols + group * kGroup + 4 * lane) =
      static_cast<uint32_t>(low) | static_cast<uint32_t>(high) << 16;
  if (lane == 0) out.scales[group * out.scale_stride + row] = scale;
}

__global__ __launch_bounds__(kThreads) void quantize_rows_kernel(
    const __grid_constant__ QuantizeRowsParams p) {
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int64_t row = blockIdx.x;
  const float* x = p.x + (p.index != nullptr ? p.index[row] : row) * p.stride;
  const float factor = norm_factor(p, x);
  for (int64_t group = threadIdx.x / 32; group < p.cols / kGroup; group += kThreads / 32) {
    const int64_t at = group * kGroup + threadIdx.x % 32 * 4;
    float4 v = *reinterpret_cast<const float4*>(x + at);
    if (p.weight != nullptr) {
      const float4 gain = *reinterpret_cast<const float4*>(p.weight + at);
      v = make_float4(v.x * factor * gain.x, v.y * factor * gain.y, v.z * factor * gain.z,
                      v.w * factor * gain.w);
    }
    if (p.f32 != nullptr) *reinterpret_cast<float4*>(p.f32 + row * p.cols + at) = v;
    store_group(v, p.out, row, p.cols, group);
  }
}

// Grid [groups / 8, rows], a warp a group: rows as they are.
__global__ __launch_bounds__(kThreads) void quantize_groups_kernel(
    const __grid_constant__ QuantizeRowsParams p) {
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int64_t row = blockIdx.y, group = int64_t{blockIdx.x} * (kThreads / 32) + threadIdx.x / 32;
  if (group >= p.cols / kGroup) return;
  const float* x = p.x + (p.index != nullptr ? p.index[row] : row) * p.stride;
  store_group(*reinterpret_cast<const float4*>(x + group * kGroup + threadIdx.x % 32 * 4), p.out, row, p.cols,
              group);
}

constexpr int kWideThreads = 1024, kWideCols = 8192;

// A block a row, which stays in registers between its norm and its codes: the latency of a step's one row.
__global__ __launch_bounds__(kWideThreads) void norm_quantize_kernel(
    const __grid_constant__ QuantizeRowsParams p) {
  constexpr int kEach = kWideCols / kWideThreads / 4;
  __shared__ float warps[kWideThreads / 32];
  const int64_t row = blockIdx.x;
  float4 gain[kEach], v[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int64_t at = (int64_t{i} * kWideThreads + threadIdx.x) * 4;
    gain[i] = v[i] = make_float4(0, 0, 0, 0);
    if (at < p.cols) gain[i] = __ldg(reinterpret_cast<const float4*>(p.weight + at));
  }
  let_next_kernel_start();
  wait_for_previous_kernel();
  const float* x = p.x + (p.index != nullptr ? p.index[row] : row) * p.stride;
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int64_t at = (int64_t{i} * kWideThreads + threadIdx.x) * 4;
    if (at < p.cols) v[i] = *reinterpret_cast<const float4*>(x + at);
    squares = fmaf(v[i].x, v[i].x, squares);
    squares = fmaf(v[i].y, v[i].y, squares);
    squares = fmaf(v[i].z, v[i].z, squares);
    squares = fmaf(v[i].w, v[i].w, squares);
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) squares += __shfl_xor_sync(~0u, squares, step);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = squares;
  __syncthreads();
  float total = warps[threadIdx.x % 32];
#pragma unroll
  for (int step = 16; step > 0; step /= 2) total += __shfl_xor_sync(~0u, total, step);
  const float factor = 1.0f / sqrtf(total / static_cast<float>(p.cols) + p.eps);
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int64_t at = (int64_t{i} * kWideThreads + threadIdx.x) * 4;
    if (at >= p.cols) return;  // whole warps: cols is a multiple of 128
    const float4 normed = {v[i].x * factor * gain[i].x, v[i].y * factor * gain[i].y,
                           v[i].z * factor * gain[i].z, v[i].w * factor * gain[i].w};
    if (p.f32 != nullptr) *reinterpret_cast<float4*>(p.f32 + row * p.cols + at) = normed;
    store_group(normed, p.out, row, p.cols, at / kGroup);
  }
}

struct SwigluQuantizeParams {
  const float* gate_up;
  int64_t width;
  QuantizedRows out;
};

// Grid [groups / 8, rows], a warp a group.
__global__ __launch_bounds__(kThreads) void swiglu_quantize_kernel(
    const __grid_constant__ SwigluQuantizeParams p) {
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int64_t row = blockIdx.y, group = int64_t{blockIdx.x} * (kThreads / 32) + threadIdx.x / 32;
  if (group >= p.width / kGroup) return;
  const float* from = p.gate_up + row * 2 * p.width + group * kGroup + threadIdx.x % 32 * 4;
  const float4 g = *reinterpret_cast<const float4*>(from),
               u = *reinterpret_cast<const float4*>(from + p.width);
  const float4 v = {g.x / (1.0f + expf(-g.x)) * u.x, g.y / (1.0f + expf(-g.y)) * u.y,
                    g.z / (1.0f + expf(-g.z)) * u.z, g.w / (1.0f + expf(-g.w)) * u.w};
  store_group(v, p.out, row, p.width, group);
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

Status launch_quantize_rows(const QuantizeRowsParams& params, int64_t rows, cudaStream_t stream) {
  constexpr int64_t kRowsMax = 65535;  // of a grid's second dimension
  if (params.weight == nullptr && params.f32 == nullptr && rows <= kRowsMax) {
    const dim3 grid(static_cast<unsigned>((params.cols / kGroup + 7) / 8), static_cast<unsigned>(rows), 1);
    return launch(quantize_groups_kernel, {.grid = grid, .threads = kThreads}, params, stream);
  }
  if (params.weight != nullptr && params.cols <= kWideCols) {
    return launch(norm_quantize_kernel, {.grid = grid_of(rows), .threads = kWideThreads}, params, stream);
  }
  return launch(quantize_rows_kernel, {.grid = grid_of(rows), .threads = kThreads}, params, stream);
}

Status launch_swiglu_quantize(const float* gate_up, int64_t width, const QuantizedRows& out, int64_t rows,
                              cudaStream_t stream) {
  constexpr int64_t kRowsMax = 65535;
  for (int64_t first = 0; first < rows; first += kRowsMax) {
    const int64_t count = rows - first < kRowsMax ? rows - first : kRowsMax;
    const SwigluQuantizeParams params{gate_up + first * 2 * width,
                                      width,
                                      {out.codes + first * width, out.scales + first, out.scale_stride}};
    const dim3 grid(static_cast<unsigned>((width / kGroup + 7) / 8), static_cast<unsigned>(count), 1);
    GANTRY_RETURN_IF_ERROR(
        launch(swiglu_quantize_kernel, {.grid = grid, .threads = kThreads}, params, stream));
  }
  return {};
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

#include <cuda_fp8.h>

#include "kernels/cuda/sm90/launch.h"
#include "kernels/cuda/sm90/ptx.cuh"
#include "kernels/cuda/sm90/quantize.h"

namespace gantry::sm90 {
namespace {

constexpr int kGroup = 128;
constexpr int kEach = 8;  // values of a thread: 16 threads make a group

__device__ __forceinline__ void load8(const __nv_bfloat16* from, float (&v)[kEach]) {
  const uint4 packed = *reinterpret_cast<const uint4*>(from);
  const uint32_t pairs[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    v[2 * j] = __uint_as_float(pairs[j] << 16);
    v[2 * j + 1] = __uint_as_float(pairs[j] & 0xffff0000u);
  }
}

// All 16 threads of a group call it together: half a warp, the other half may have left.
__device__ __forceinline__ void store_quantized(const float (&v)[kEach], uint8_t* out, float* scale_out,
                                                bool leader) {
  const uint32_t group = 0xffffu << (threadIdx.x & 16);
  float most = 0.0f;
#pragma unroll
  for (int i = 0; i < kEach; ++i) most = fmaxf(most, fabsf(v[i]));
#pragma unroll
  for (int step = 1; step < 16; step *= 2) most = fmaxf(most, __shfl_xor_sync(group, most, step));
  const float scale = fmaxf(most, 1e-30f) / 448.0f;
  const float inverse = 1.0f / scale;
  uint32_t words[2];
#pragma unroll
  for (int w = 0; w < 2; ++w) {
    const float2 low = {v[4 * w] * inverse, v[4 * w + 1] * inverse};
    const float2 high = {v[4 * w + 2] * inverse, v[4 * w + 3] * inverse};
    words[w] = static_cast<uint32_t>(__nv_cvt_float2_to_fp8x2(low, __NV_SATFINITE, __NV_E4M3)) |
               static_cast<uint32_t>(__nv_cvt_float2_to_fp8x2(high, __NV_SATFINITE, __NV_E4M3)) << 16;
  }
  *reinterpret_cast<uint2*>(out) = make_uint2(words[0], words[1]);
  if (leader) *scale_out = scale;
}

// One block a row, 8 values a thread, so that the row stays in registers between the two passes.
__global__ __launch_bounds__(1024) void norm_quantize_kernel(const __grid_constant__ NormQuantizeArgs p) {
  __shared__ float warp_sums[32];
  const int row = blockIdx.x, column = threadIdx.x * kEach;
  const bool inside = column < p.width;
  float gain[kEach] = {};
  if (inside) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) gain[i] = __ldg(p.weight + column + i);
  }
  let_next_kernel_start();
  wait_for_previous_kernel();
  float v[kEach] = {};
  if (inside && p.x != nullptr) {
    load8(p.x + int64_t{row} * p.x_stride + column, v);
  } else if (inside) {
    float* residual = p.residual + int64_t{row} * p.width + column;
#pragma unroll
    for (int i = 0; i < kEach; i += 4) {
      const float4 quad = *reinterpret_cast<const float4*>(residual + i);
      v[i] = quad.x;
      v[i + 1] = quad.y;
      v[i + 2] = quad.z;
      v[i + 3] = quad.w;
    }
    if (p.delta != nullptr) {
      float delta[kEach];
      load8(p.delta + int64_t{row} * p.width + column, delta);
#pragma unroll
      for (int i = 0; i < kEach; ++i) v[i] += delta[i];
#pragma unroll
      for (int i = 0; i < kEach; i += 4) {
        *reinterpret_cast<float4*>(residual + i) = make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]);
      }
    }
  }
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < kEach; ++i) squares += v[i] * v[i];
#pragma unroll
  for (int step = 16; step > 0; step /= 2) squares += __shfl_xor_sync(~0u, squares, step);
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = squares;
  __syncthreads();
  float total = 0.0f;
  for (int w = 0; w < static_cast<int>(blockDim.x / 32); ++w) total += warp_sums[w];
  const float factor = 1.0f / sqrtf(total / static_cast<float>(p.width) + p.eps);
#pragma unroll
  for (int i = 0; i < kEach; ++i) v[i] = v[i] * factor * gain[i];
  if (!inside) return;  // whole warps or whole half warps: a width is a multiple of 128
  if (p.normed != nullptr) {
    uint32_t pairs[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(v[2 * j], v[2 * j + 1]);
      pairs[j] = *reinterpret_cast<const uint32_t*>(&pair);
    }
    *reinterpret_cast<uint4*>(p.normed + int64_t{row} * p.width + column) =
        make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
  }
  store_quantized(v, p.out + int64_t{row} * p.width + column,
                  p.scale + int64_t{column / kGroup} * p.scale_stride + row, threadIdx.x % 16 == 0);
}

template <bool kSwiglu>
__global__ __launch_bounds__(128) void quantize_kernel(const __grid_constant__ QuantizeArgs p) {
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int row = blockIdx.y, column = (blockIdx.x * 128 + threadIdx.x) * kEach;
  if (column >= p.width) return;
  float v[kEach];
  if constexpr (kSwiglu) {
    float up[kEach];
    const __nv_bfloat16* gate_up = p.x + int64_t{row} * 2 * p.width + column;
    load8(gate_up, v);
    load8(gate_up + p.width, up);
#pragma unroll
    for (int i = 0; i < kEach; ++i) v[i] = v[i] / (1.0f + __expf(-v[i])) * up[i];
  } else {
    load8(p.x + int64_t{row} * p.width + column, v);
  }
  store_quantized(v, p.out + int64_t{row} * p.width + column,
                  p.scale + int64_t{column / kGroup} * p.scale_stride + row, threadIdx.x % 16 == 0);
}

template <bool kSwiglu>
Status launch_rows(const QuantizeArgs& args, cudaStream_t stream) {
  if (args.width % kGroup != 0 || args.rows < 1)
    return internal_error("quantise needs a width of whole groups");
  const auto blocks = static_cast<unsigned>((args.width + 1023) / 1024);
  return launch(quantize_kernel<kSwiglu>,
                {.grid = dim3(blocks, static_cast<unsigned>(args.rows), 1), .threads = 128}, args, stream);
}

}  // namespace

Status launch_norm_quantize(const NormQuantizeArgs& args, cudaStream_t stream) {
  if (args.width % kGroup != 0 || args.width > 8192 || args.rows < 1) {
    return internal_error("norm + quantise of width " + std::to_string(args.width));
  }
  const int threads = (args.width / kEach + 31) / 32 * 32;
  return launch(norm_quantize_kernel,
                {.grid = dim3(static_cast<unsigned>(args.rows), 1, 1), .threads = threads}, args, stream);
}

Status launch_quantize(const QuantizeArgs& args, cudaStream_t stream) {
  return launch_rows<false>(args, stream);
}
Status launch_swiglu_quantize(const QuantizeArgs& args, cudaStream_t stream) {
  return launch_rows<true>(args, stream);
}

}  // namespace gantry::sm90

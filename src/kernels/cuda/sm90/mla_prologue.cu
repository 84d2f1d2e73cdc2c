#include "kernels/cuda/sm90/launch.h"
#include "kernels/cuda/sm90/mla_decode.h"
#include "kernels/cuda/sm90/mla_prologue.h"
#include "kernels/cuda/sm90/ptx.cuh"

namespace gantry::sm90 {
namespace {

constexpr int kThreads = 128;
constexpr int kPairs = 32;
constexpr int kHeadsPerBlock = 16;

__device__ __forceinline__ void rotate(const __nv_bfloat16* from, float cos, float sin, __nv_bfloat16* to) {
  const float2 v = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(from));
  *reinterpret_cast<__nv_bfloat162*>(to) =
      __floats2bfloat162_rn(v.x * cos - v.y * sin, v.y * cos + v.x * sin);
}

// Grid [rows, 1 + heads / 16]: block 0 of a row makes the cache row, the others rotate 16 heads each.
__global__ __launch_bounds__(kThreads) void mla_prologue_kernel(const __grid_constant__ MlaPrologueArgs p) {
  __shared__ float warp_sums[kThreads / 32];
  const int row = blockIdx.x, pair = threadIdx.x % kPairs;
  const float cos = __ldg(p.cos + row * kPairs + pair), sin = __ldg(p.sin + row * kPairs + pair);
  let_next_kernel_start();
  wait_for_previous_kernel();
  if (blockIdx.y > 0) {
    const int q_width = p.q_nope + 2 * kPairs;
    for (int h = threadIdx.x / kPairs; h < kHeadsPerBlock; h += kThreads / kPairs) {
      const int head = (blockIdx.y - 1) * kHeadsPerBlock + h;
      if (head >= p.heads) return;
      const int64_t at = int64_t{row} * p.heads + head;
      rotate(p.q_b + at * q_width + p.q_nope + 2 * pair, cos, sin, p.q + at * kMlaKey + kMlaValue + 2 * pair);
    }
    return;
  }
  const int position = p.lengths[row] - 1;
  const int block = p.block_table[int64_t{row} * p.table_stride + position / kMlaTokens];
  __nv_bfloat16* to = p.cache + (int64_t{block} * kMlaTokens + position % kMlaTokens) * kMlaKey;
  const __nv_bfloat16* from = p.kv_a + int64_t{row} * p.kv_stride;
  const auto* pairs = reinterpret_cast<const __nv_bfloat162*>(from) + 2 * threadIdx.x;
  const float2 a = __bfloat1622float2(pairs[0]), b = __bfloat1622float2(pairs[1]);
  float squares = a.x * a.x + a.y * a.y + b.x * b.x + b.y * b.y;
#pragma unroll
  for (int step = 16; step > 0; step /= 2) squares += __shfl_xor_sync(~0u, squares, step);
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = squares;
  __syncthreads();
  const float total = (warp_sums[0] + warp_sums[1]) + (warp_sums[2] + warp_sums[3]);
  const float factor = 1.0f / sqrtf(total / kMlaValue + p.eps);
  const float4 gain = __ldg(reinterpret_cast<const float4*>(p.kv_weight) + threadIdx.x);
  auto* out = reinterpret_cast<__nv_bfloat162*>(to) + 2 * threadIdx.x;
  out[0] = __floats2bfloat162_rn(a.x * factor * gain.x, a.y * factor * gain.y);
  out[1] = __floats2bfloat162_rn(b.x * factor * gain.z, b.y * factor * gain.w);
  if (threadIdx.x < kPairs) rotate(from + kMlaValue + 2 * pair, cos, sin, to + kMlaValue + 2 * pair);
}

}  // namespace

Status launch_mla_prologue(const MlaPrologueArgs& args, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(1 + (args.heads + kHeadsPerBlock - 1) / kHeadsPerBlock);
  return launch(mla_prologue_kernel,
                {.grid = dim3(static_cast<unsigned>(args.rows), blocks, 1), .threads = kThreads}, args,
                stream);
}

}  // namespace gantry::sm90

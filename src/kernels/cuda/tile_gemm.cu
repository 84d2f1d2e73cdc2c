#include "kernels/cuda/sm90/launch.h"
#include "kernels/cuda/sm90/ptx.cuh"
#include "kernels/cuda/tile_gemm.h"

namespace gantry::cuda {
namespace {

constexpr int kTile = 64, kDepth = 16, kThreads = 256;
constexpr int kEach = 4;  // rows and columns of a thread

// Grid [tiles of n, tiles of rows, entries]; with offsets a block walks all rows of its entry.
template <typename T>
__global__ __launch_bounds__(kThreads) void tile_gemm_kernel(const __grid_constant__ TileGemmParams p) {
  __shared__ float xs[kDepth][kTile + 4];
  __shared__ float ws[kDepth][kTile + 4];
  sm90::let_next_kernel_start();
  sm90::wait_for_previous_kernel();
  const int64_t entry = blockIdx.z;
  const bool grouped = p.offsets != nullptr;
  const int64_t first = grouped ? p.offsets[entry] : 0, end = grouped ? p.offsets[entry + 1] : p.rows;
  const int64_t first_n = int64_t{blockIdx.x} * kTile;
  const T* weight = static_cast<const T*>(p.weight) + entry * p.weight_entry_stride;
  const float* x = p.x + entry * p.x_entry_step;
  float* out = p.out + entry * p.out_entry_step;
  const int load_row = threadIdx.x / 4, load_k = threadIdx.x % 4 * 4;
  const int row = threadIdx.x / 16 * kEach, column = threadIdx.x % 16 * kEach;
  const int64_t step = int64_t{gridDim.y} * kTile;
  for (int64_t tile = first + int64_t{blockIdx.y} * kTile; tile < end; tile += step) {
    const int64_t x_at = tile + load_row;
    const float* x_row =
        x_at < end ? x + (p.x_rows != nullptr ? p.x_rows[x_at] : x_at) * p.x_stride : nullptr;
    const T* w_row = first_n + load_row < p.n ? weight + (first_n + load_row) * p.weight_stride : nullptr;
    float sum[kEach][kEach] = {};
    for (int64_t k0 = 0; k0 < p.k; k0 += kDepth) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int64_t k = k0 + load_k + i;
        const bool inside = k < p.k;
        xs[load_k + i][load_row] = inside && x_row != nullptr ? x_row[k] : 0.0f;
        ws[load_k + i][load_row] = inside && w_row != nullptr ? static_cast<float>(w_row[k]) : 0.0f;
      }
      __syncthreads();
#pragma unroll
      for (int k = 0; k < kDepth; ++k) {
        const float4 a = *reinterpret_cast<const float4*>(&xs[k][row]);
        const float4 b = *reinterpret_cast<const float4*>(&ws[k][column]);
        const float as[kEach] = {a.x, a.y, a.z, a.w}, bs[kEach] = {b.x, b.y, b.z, b.w};
#pragma unroll
        for (int i = 0; i < kEach; ++i) {
#pragma unroll
          for (int j = 0; j < kEach; ++j) sum[i][j] = fmaf(as[i], bs[j], sum[i][j]);
        }
      }
      __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (tile + row + i >= end) continue;
      float* to = out + (tile + row + i) * p.out_stride + first_n + column;
#pragma unroll
      for (int j = 0; j < kEach; ++j) {
        const int64_t n = first_n + column + j;
        if (n >= p.n) continue;
        const float value = sum[i][j] + (p.bias != nullptr ? p.bias[n] : 0.0f);
        to[j] = p.accumulate ? to[j] + value : value;
      }
    }
  }
}

}  // namespace

Status launch_tile_gemm(const TileGemmParams& params, cudaStream_t stream) {
  constexpr int64_t kRowTilesMax = 65535;
  int64_t row_tiles = params.offsets != nullptr ? 1 : (params.rows + kTile - 1) / kTile;
  if (row_tiles > kRowTilesMax) row_tiles = kRowTilesMax;
  const sm90::LaunchShape shape{
      .grid = dim3(static_cast<unsigned>((params.n + kTile - 1) / kTile), static_cast<unsigned>(row_tiles),
                   static_cast<unsigned>(params.entries)),
      .threads = kThreads};
  return params.bf16 ? sm90::launch(tile_gemm_kernel<__nv_bfloat16>, shape, params, stream)
                     : sm90::launch(tile_gemm_kernel<float>, shape, params, stream);
}

}  // namespace gantry::cuda

#include "kernels/cuda/sm90/launch.h"
#include "kernels/cuda/sm90/ptx.cuh"
#include "kernels/cuda/tile_gemm.h"

namespace gantry::cuda {
namespace {

constexpr int kTile = 64, kDepth = 16, kThreads = 256;
constexpr int kEach = 4;            // columns of a thread
constexpr int kFew = 4, kMany = 8;  // rows of a thread
constexpr int kLoads = kTile * kDepth / kThreads;

// Four values of a row from column k on; zeros past `count`.
template <typename T>
__device__ __forceinline__ float4 four_of(const T* row, int64_t k, int64_t count, bool whole) {
  if (row == nullptr) return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  if constexpr (sizeof(T) == 4) {
    if (whole) return *reinterpret_cast<const float4*>(row + k);
  }
  float v[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) v[i] = k + i < count ? static_cast<float>(row[k + i]) : 0.0f;
  return make_float4(v[0], v[1], v[2], v[3]);
}

// Grid [tiles of n, tiles of rows, entries]; with offsets a block walks all rows of its entry. A thread computes kRows
// rows of kEach columns, and loads the next kDepth of k while it multiplies these.
template <typename T, int kRows>
__global__ __launch_bounds__(kThreads) void tile_gemm_kernel(const __grid_constant__ TileGemmParams p) {
  static_assert(kLoads == 4, "a thread loads four of k");
  constexpr int kTileRows = kThreads / (kTile / kEach) * kRows, kXLoads = kTileRows / kTile;
  __shared__ float xs[kDepth][kTileRows + 4];
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
  const int row = threadIdx.x / 16 * kRows, column = threadIdx.x % 16 * kEach;
  const int64_t step = int64_t{gridDim.y} * kTileRows;
  const T* w_row = first_n + load_row < p.n ? weight + (first_n + load_row) * p.weight_stride : nullptr;
  const bool whole = p.k % kDepth == 0 && p.x_stride % 4 == 0 && p.weight_stride % 4 == 0 &&
                     (reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(weight)) % 16 == 0;
  for (int64_t tile = first + int64_t{blockIdx.y} * kTileRows; tile < end; tile += step) {
    const float* x_rows[kXLoads];
#pragma unroll
    for (int i = 0; i < kXLoads; ++i) {
      const int64_t at = tile + load_row + i * kTile;
      x_rows[i] = at < end ? x + (p.x_rows != nullptr ? p.x_rows[at] : at) * p.x_stride : nullptr;
    }
    float4 next_x[kXLoads], next_w;
    const auto load = [&](int64_t k) {
#pragma unroll
      for (int i = 0; i < kXLoads; ++i) next_x[i] = four_of(x_rows[i], k, p.k, whole);
      next_w = four_of(w_row, k, p.k, whole);
    };
    load(load_k);
    float sum[kRows][kEach] = {};
    for (int64_t k0 = 0; k0 < p.k; k0 += kDepth) {
#pragma unroll
      for (int i = 0; i < kXLoads; ++i) {
        const float v[4] = {next_x[i].x, next_x[i].y, next_x[i].z, next_x[i].w};
#pragma unroll
        for (int j = 0; j < 4; ++j) xs[load_k + j][load_row + i * kTile] = v[j];
      }
      const float w[4] = {next_w.x, next_w.y, next_w.z, next_w.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) ws[load_k + j][load_row] = w[j];
      __syncthreads();
      if (k0 + kDepth < p.k) load(k0 + kDepth + load_k);
#pragma unroll
      for (int k = 0; k < kDepth; ++k) {
        float as[kRows];
#pragma unroll
        for (int i = 0; i < kRows; i += 4) {
          const float4 a = *reinterpret_cast<const float4*>(&xs[k][row + i]);
          as[i] = a.x;
          as[i + 1] = a.y;
          as[i + 2] = a.z;
          as[i + 3] = a.w;
        }
        const float4 b = *reinterpret_cast<const float4*>(&ws[k][column]);
        const float bs[kEach] = {b.x, b.y, b.z, b.w};
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
#pragma unroll
          for (int j = 0; j < kEach; ++j) sum[i][j] = fmaf(as[i], bs[j], sum[i][j]);
        }
      }
      __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
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
  constexpr int64_t kManyRows = 2048;  // from here on tiles of 128 rows fill the machine
  const bool many = params.offsets == nullptr && params.rows >= kManyRows;
  const int64_t tile = many ? 2 * kTile : kTile;
  int64_t row_tiles = params.offsets != nullptr ? 1 : (params.rows + tile - 1) / tile;
  if (row_tiles > kRowTilesMax) row_tiles = kRowTilesMax;
  const sm90::LaunchShape shape{
      .grid = dim3(static_cast<unsigned>((params.n + kTile - 1) / kTile), static_cast<unsigned>(row_tiles),
                   static_cast<unsigned>(params.entries)),
      .threads = kThreads};
  if (params.bf16) {
    return many ? sm90::launch(tile_gemm_kernel<__nv_bfloat16, kMany>, shape, params, stream)
                : sm90::launch(tile_gemm_kernel<__nv_bfloat16, kFew>, shape, params, stream);
  }
  return many ? sm90::launch(tile_gemm_kernel<float, kMany>, shape, params, stream)
              : sm90::launch(tile_gemm_kernel<float, kFew>, shape, params, stream);
}

}  // namespace gantry::cuda

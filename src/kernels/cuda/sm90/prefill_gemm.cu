#include <cuda_fp8.h>

#include "kernels/cuda/sm90/launch.h"
#include "kernels/cuda/sm90/prefill_gemm_launch.h"
#include "kernels/cuda/sm90/ptx.cuh"
#include "kernels/cuda/sm90/quad.cuh"
#include "kernels/cuda/sm90/tensor_map.h"
#include "kernels/cuda/sm90/wgmma.cuh"

namespace gantry::sm90 {
namespace {

constexpr int kBlockK = 128;  // bytes, and values
constexpr int kConsumers =
    256;                    // two warpgroups of 64 rows; a third feeds the ring and lends them its registers
constexpr int kHalf = 128;  // columns that are multiplied, then scaled, at once

struct Params {
  CUtensorMap weight;
  CUtensorMap x;
  const float* weight_scale;
  const float* x_scale;
  const PrefillChunk* chunks;
  const int32_t* chunk_count;
  int32_t* next_tile;  // or null
  float* out_f32;
  __nv_bfloat16* out;
  uint8_t* codes;
  float* code_scale;
  int64_t out_stride;
  int x_scale_stride, code_scale_stride;
  int m, n, kblocks, scale_rows;  // scale_rows: of one W
  int column_tiles, row_tiles, band, stages;
  bool accumulate;
};

constexpr int kTileSlots = 2;  // tiles that the producer has taken and the others have not

struct Tile {
  int expert, first_row, rows, column;  // column: tile of columns
};

// The t-th tile. Dense: bands of `band` tiles of rows, rows first. Grouped: the chunks of an expert share a tile of its
// weights one after the other.
__device__ __forceinline__ Tile tile_at(const Params& p, int t) {
  if (p.chunks != nullptr) {
    const PrefillChunk* chunk = p.chunks + t / p.column_tiles;
    const int first = __ldg(&chunk->first_chunk), count = __ldg(&chunk->chunks);
    const int local = t - first * p.column_tiles;
    chunk = p.chunks + first + local % count;
    return {__ldg(&chunk->expert), __ldg(&chunk->first_row), __ldg(&chunk->rows), local / count};
  }
  const int band = t / (p.band * p.column_tiles), first = band * p.band;
  const int height = min(p.band, p.row_tiles - first), local = t - first * p.column_tiles;
  const int row = (first + local % height) * kPrefillRows;
  return {0, row, min(kPrefillRows, p.m - row), local / height};
}

// Persistent. A block takes tiles blockIdx.x, blockIdx.x + gridDim.x, ..., or with next_tile, because the tiles of
// experts differ in rows, the first that no block has taken: those that share weights then start together, and read them
// from the L2. Warpgroup g multiplies rows 64 g .. 64 g + 63 of a tile; the last warpgroup's first thread feeds the ring,
// and runs ahead into the next tile while the others store.
// kHalves: 128 columns each. kSwiglu: the first half is gate's, the second up's.
template <int kHalves, bool kSwiglu>
__global__ __launch_bounds__(kConsumers + 128, 1) void prefill_gemm_kernel(const __grid_constant__ Params p) {
  constexpr int kABytes = kPrefillRows * kBlockK, kBBytes = kHalves * kHalf * kBlockK;
  extern __shared__ uint8_t unaligned[];
  uint8_t* smem =
      reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(unaligned) + 1023) & ~uintptr_t{1023});
  uint8_t* a_ring = smem;                         // [stages, 128, 128], swizzled
  uint8_t* b_ring = a_ring + p.stages * kABytes;  // [stages, kHalves * 128, 128], swizzled
  auto* scale_ring = reinterpret_cast<float*>(b_ring + p.stages * kBBytes);  // [stages, 128]
  auto* full = reinterpret_cast<uint64_t*>(scale_ring + p.stages * kPrefillRows);
  uint64_t* empty = full + p.stages;
  uint64_t* tile_full = empty + p.stages;
  uint64_t* tile_empty = tile_full + kTileSlots;
  auto* tile_slots = reinterpret_cast<int*>(tile_empty + kTileSlots);

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (threadIdx.x == 0) {
    for (int s = 0; s < p.stages; ++s) {
      mbarrier_init(full + s, 1);
      mbarrier_init(empty + s, kConsumers);
    }
    for (int s = 0; s < kTileSlots; ++s) {
      mbarrier_init(tile_full + s, 1);
      mbarrier_init(tile_empty + s, kConsumers);
    }
    fence_barrier_init();
  }
  __syncthreads();
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int tiles = p.column_tiles * (p.chunks != nullptr ? __ldg(p.chunk_count) : p.row_tiles);
  // Rows of W from a tile's first half to its second, and from one tile to the next.
  const int second = kSwiglu ? p.n / 2 : kHalf, tile_step = kSwiglu ? kHalf : kHalves * kHalf;
  int stage = 0, parity = 0;
  const auto advance = [&]() __attribute__((always_inline)) {
    if (++stage == p.stages) {
      stage = 0;
      parity ^= 1;
    }
  };

  if (warp >= kConsumers / 32) {
    lower_registers<40>();
    if (threadIdx.x == kConsumers) {
      prefetch_map(&p.weight);
      prefetch_map(&p.x);
      for (int n = 0;; ++n) {
        int t = blockIdx.x + n * gridDim.x;
        if (p.next_tile != nullptr) {
          t = atomicAdd(p.next_tile, 1);
          mbarrier_wait(tile_empty + n % kTileSlots, (n / kTileSlots & 1) ^ 1);
          tile_slots[n % kTileSlots] = t;
          mbarrier_arrive(tile_full + n % kTileSlots);
        }
        if (t >= tiles) break;
        const Tile tile = tile_at(p, t);
        const int w_row = tile.expert * p.n + tile.column * tile_step;
        const uint32_t x_bytes = tile.rows > 64 ? kABytes : kABytes / 2;
        for (int k = 0; k < p.kblocks; ++k) {
          mbarrier_wait(empty + stage, parity ^ 1);
          mbarrier_expect(full + stage, x_bytes + kBBytes + kPrefillRows * 4);
          uint8_t* a = a_ring + stage * kABytes;
          uint8_t* b = b_ring + stage * kBBytes;
          uint64_t* barrier = full + stage;
          const int k_at = k * kBlockK;
          tma_load(a, &p.x, k_at, tile.first_row, barrier, kEvictLast);
          if (tile.rows > 64) {
            tma_load(a + kABytes / 2, &p.x, k_at, tile.first_row + 64, barrier, kEvictLast);
          }
#pragma unroll
          for (int h = 0; h < kHalves; ++h) {
            tma_load(b + h * kHalf * kBlockK, &p.weight, k_at, w_row + h * second, barrier, kEvictLast);
          }
          bulk_load(scale_ring + stage * kPrefillRows,
                    p.x_scale + int64_t{k} * p.x_scale_stride + tile.first_row, kPrefillRows * 4, barrier);
          advance();
        }
      }
    }
  } else {
    raise_registers<232>();
    const int group = __shfl_sync(~0u, warp / 4, 0);
    const int row = warp * 16 + lane / 4;  // and row + 8: this thread's rows of the tile
    const int column = 2 * (lane % 4);     // + 8 i, and the one after it
    const uint32_t scales = smem_address(scale_ring) + row * 4;
    for (int n = 0;; ++n) {
      int t = blockIdx.x + n * gridDim.x;
      if (p.next_tile != nullptr) {
        mbarrier_wait(tile_full + n % kTileSlots, n / kTileSlots & 1);
        t = tile_slots[n % kTileSlots];
        mbarrier_arrive(tile_empty + n % kTileSlots);
      }
      if (t >= tiles) break;
      const Tile tile = tile_at(p, t);
      const bool active = tile.rows > group * 64;
      // Past n the weights read as zeros or are not stored: any scale does.
      const int scale_row = min(tile.column * tile_step / 128, p.scale_rows - 1);
      const float* weight_scale =
          p.weight_scale + (int64_t{tile.expert} * p.scale_rows + scale_row) * p.kblocks;
      const int scale_step =
          min(second / 128, p.scale_rows - 1 - scale_row) * p.kblocks;  // to the second half's
      float sum[kHalves][kHalf / 2];
#pragma unroll
      for (int h = 0; h < kHalves; ++h) {
#pragma unroll
        for (float& s : sum[h]) s = 0.0f;
      }
      for (int k = 0; k < p.kblocks; ++k, ++weight_scale) {
        float w_scale[kHalves];
        w_scale[0] = __ldg(weight_scale);
        if constexpr (kHalves == 2) w_scale[1] = __ldg(weight_scale + scale_step);
        mbarrier_wait(full + stage, parity);
        if (active) {
          const float x0 = load_shared_float(scales + stage * (kPrefillRows * 4)),
                      x1 = load_shared_float(scales + stage * (kPrefillRows * 4) + 32);
          const uint64_t a =
              swizzle128_descriptor(smem_address(a_ring + stage * kABytes + group * 64 * kBlockK));
#pragma unroll
          for (int h = 0; h < kHalves; ++h) {
            const uint64_t b =
                swizzle128_descriptor(smem_address(b_ring + stage * kBBytes + h * kHalf * kBlockK));
            float product[kHalf / 2];
            wgmma_hold(product);
            wgmma_fence();
#pragma unroll
            for (int s = 0; s < kBlockK / 32; ++s) wgmma_fp8(product, a + s * 2, b + s * 2, s > 0);
            wgmma_commit();
            wgmma_wait<0>();
            wgmma_hold(product);
            if (h == kHalves - 1) mbarrier_arrive(empty + stage);  // every lane: it has read its scales
            const float s0 = x0 * w_scale[h], s1 = x1 * w_scale[h];
#pragma unroll
            for (int v = 0; v < kHalf / 2; ++v) {
              sum[h][v] = fmaf(product[v], v / 2 % 2 == 0 ? s0 : s1, sum[h][v]);
            }
          }
        } else {
          mbarrier_arrive(empty + stage);
        }
        advance();
      }
      if (!active) continue;

      if constexpr (kSwiglu) {
        const int width = p.n / 2, first = tile.column * kHalf;
#pragma unroll
        for (int v = 0; v < kHalf / 2; ++v) {
          const float gate = sum[0][v];
          sum[0][v] = gate / (1.0f + __expf(-gate)) * sum[kHalves - 1][v];
        }
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float most = 0.0f;
#pragma unroll
          for (int i = 0; i < kHalf / 8; ++i) {
            most = fmaxf(most, fmaxf(fabsf(sum[0][4 * i + 2 * j]), fabsf(sum[0][4 * i + 2 * j + 1])));
          }
          most = quad_max(most);
          if (row + 8 * j >= tile.rows) continue;
          const float scale = fmaxf(most, 1e-30f) / 448.0f, inverse = 1.0f / scale;
          const int64_t at = tile.first_row + row + 8 * j;
          uint8_t* to = p.codes + at * width + first + column;
#pragma unroll
          for (int i = 0; i < kHalf / 8; ++i) {
            *reinterpret_cast<__nv_fp8x2_storage_t*>(to + 8 * i) = __nv_cvt_float2_to_fp8x2(
                {sum[0][4 * i + 2 * j] * inverse, sum[0][4 * i + 2 * j + 1] * inverse}, __NV_SATFINITE,
                __NV_E4M3);
          }
          if (column == 0) p.code_scale[int64_t{tile.column} * p.code_scale_stride + at] = scale;
        }
      } else if (p.out != nullptr) {
#pragma unroll
        for (int h = 0; h < kHalves; ++h) {
          const int first = tile.column * tile_step + h * kHalf;
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            store_row_bf16(p.out + (tile.first_row + row + 8 * j) * p.out_stride + first, sum[h] + 2 * j,
                           row + 8 * j < tile.rows, p.n - first, lane);
          }
        }
      } else {
#pragma unroll
        for (int h = 0; h < kHalves; ++h) {
          const int first = tile.column * tile_step + h * kHalf;
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            if (row + 8 * j >= tile.rows) continue;
            float* to = p.out_f32 + (tile.first_row + row + 8 * j) * p.out_stride + first + column;
            float2 pairs[kHalf / 8];
#pragma unroll
            for (int i = 0; i < kHalf / 8; ++i) {
              pairs[i] = p.accumulate && first + 8 * i < p.n ? *reinterpret_cast<const float2*>(to + 8 * i)
                                                             : make_float2(0.0f, 0.0f);
            }
#pragma unroll
            for (int i = 0; i < kHalf / 8; ++i) {
              if (first + 8 * i >= p.n) continue;
              *reinterpret_cast<float2*>(to + 8 * i) =
                  make_float2(pairs[i].x + sum[h][4 * i + 2 * j], pairs[i].y + sum[h][4 * i + 2 * j + 1]);
            }
          }
        }
      }
    }
  }
}

}  // namespace

Result<PrefillGemmArgs> plan_prefill_gemm(const PrefillGemmShape& shape, const PrefillGemmConfig& config,
                                          const void* weight, const void* x, int x_rows_max) {
  if (config.columns != 128 && config.columns != 256) {
    return internal_error("no prefill GEMM for " + std::to_string(shape.m) + " x " + std::to_string(shape.n) +
                          " x " + std::to_string(shape.k));
  }
  PrefillGemmArgs args{};
  args.shape = shape;
  args.config = config;
  TensorMapSpec spec{.base = weight,
                     .cols = static_cast<uint64_t>(shape.k),
                     .rows = static_cast<uint64_t>(shape.n) * static_cast<uint64_t>(shape.experts),
                     .row_stride = static_cast<uint64_t>(shape.k),
                     .box_cols = kBlockK,
                     .box_rows = kHalf};
  GANTRY_ASSIGN_OR_RETURN(args.weight, make_tensor_map(spec));
  spec.base = x;
  spec.rows = static_cast<uint64_t>(x_rows_max);
  spec.box_rows = 64;
  GANTRY_ASSIGN_OR_RETURN(args.x, make_tensor_map(spec));
  return args;
}

Status launch_prefill_gemm(const PrefillGemmArgs& args, int sm_count, cudaStream_t stream) {
  const PrefillGemmShape& s = args.shape;
  const bool swiglu = args.codes != nullptr;
  if (swiglu != s.swiglu || (swiglu && args.config.columns != 256) ||
      (!swiglu && ((args.out == nullptr) == (args.out_f32 == nullptr) ||
                   args.out_stride % (args.out != nullptr ? 8 : 2) != 0))) {
    return internal_error("a prefill GEMM whose output is not one of f32, bf16 and SwiGLU");
  }
  const int step = s.swiglu ? 128 : args.config.columns, width = s.swiglu ? s.n / 2 : s.n;
  const Params params{.weight = args.weight,
                      .x = args.x,
                      .weight_scale = args.weight_scale,
                      .x_scale = args.x_scale,
                      .chunks = args.chunks,
                      .chunk_count = args.chunk_count,
                      .next_tile = args.next_tile,
                      .out_f32 = args.out_f32,
                      .out = args.out,
                      .codes = args.codes,
                      .code_scale = args.code_scale,
                      .out_stride = args.out_stride,
                      .x_scale_stride = args.x_scale_stride,
                      .code_scale_stride = args.code_scale_stride,
                      .m = s.m,
                      .n = s.n,
                      .kblocks = s.k / kBlockK,
                      .scale_rows = (s.n + 127) / 128,
                      .column_tiles = (width + step - 1) / step,
                      .row_tiles = (s.m + kPrefillRows - 1) / kPrefillRows,
                      .band = args.config.band,
                      .stages = args.config.stages,
                      .accumulate = args.accumulate};
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(sm_count), 1, 1),
                          .threads = kConsumers + 128,
                          .smem_bytes = args.config.smem_bytes};
  if (s.swiglu) return launch(prefill_gemm_kernel<2, true>, shape, params, stream);
  return args.config.columns == 256 ? launch(prefill_gemm_kernel<2, false>, shape, params, stream)
                                    : launch(prefill_gemm_kernel<1, false>, shape, params, stream);
}

}  // namespace gantry::sm90

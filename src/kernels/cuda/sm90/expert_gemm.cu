#include <cuda_fp8.h>

#include "kernels/cuda/sm90/expert_gemm_launch.h"
#include "kernels/cuda/sm90/launch.h"
#include "kernels/cuda/sm90/ptx.cuh"
#include "kernels/cuda/sm90/tensor_map.h"
#include "kernels/cuda/sm90/wgmma.cuh"

namespace gantry::sm90 {
namespace {

constexpr int kBlockK = 128;
constexpr int kTile = 128;  // rows of W_down, or columns of h: rows of gate and as many of up

struct Params {
  CUtensorMap weight;
  CUtensorMap x;
  const float* weight_scale;
  const float* x_scale;
  const ExpertChunk* chunks;
  const int32_t* chunk_count;
  const int32_t* expert_slot;  // gate_up over all tokens; else null
  uint8_t* h;
  float* h_scale;
  __nv_bfloat16* y;
  int x_scale_stride, h_scale_stride;
  int kblocks, tiles;   // of K; of the output's width
  int rows_per_expert;  // of W
  int tokens;           // B
  int stages;
  float* partial;  // [grid, kMatrices * kTokens / 2, 256 threads]
  int32_t* flags;  // [grid] 1: the block's partial sums are there; launch_dispatch clears them
};

// What a block multiplies next: k-blocks k0 .. k1 - 1 of an item.
struct Work {
  int item, k0, k1;
  int unit, end;  // by k-blocks: of all items', those that this block still has to do
  bool by_tiles;
};

__device__ __forceinline__ int units_per_block(const Params& p, int items) {
  return (items * p.kblocks + gridDim.x - 1) / gridDim.x;
}
__device__ __forceinline__ bool next_work(const Params& p, int items, Work& w) {
  if (w.by_tiles) {
    w.item += gridDim.x;
    w.k0 = 0;
    w.k1 = p.kblocks;
    return w.item < items;
  }
  if (w.unit >= w.end) return false;
  w.item = w.unit / p.kblocks;
  w.k0 = w.unit % p.kblocks;
  w.k1 = min(p.kblocks, w.k0 + w.end - w.unit);
  w.unit += w.k1 - w.k0;
  return true;
}
// By k-blocks where tiles would leave the last wave more than an eighth of all work short: for few experts.
// Else by tiles, which costs no exchange (measured on an H200: 2% at 57 experts).
__device__ __forceinline__ Work no_work_yet(const Params& p, int items) {
  const int grid = static_cast<int>(gridDim.x), block = static_cast<int>(blockIdx.x);
  const bool by_tiles = (items + grid - 1) / grid * grid - items <= items / 8;
  const int units = units_per_block(p, items), total = items * p.kblocks;
  const int begin = min(total, block * units);
  return {block - grid, 0, 0, begin, min(total, begin + units), by_tiles};
}

__device__ __forceinline__ void publish(int32_t* flag) {
  asm volatile("st.release.gpu.global.s32 [%0], 1;" ::"l"(flag) : "memory");
}
__device__ __forceinline__ void await(const int32_t* flag) {
  int32_t value;
  do {
    asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
  } while (value == 0);
}

// From the L2: another kernel of this stream wrote them, and this one may have started before it ended.
__device__ __forceinline__ ExpertChunk load_chunk(const ExpertChunk* chunk) {
  return {__ldcg(&chunk->expert), __ldcg(&chunk->first_slot), __ldcg(&chunk->count)};
}

__device__ __forceinline__ float silu(float x) { return x / (1.0f + __expf(-x)); }

// Persistent, over the list chunks x tiles, last chunk first: the shared expert, whose weights were drawn
// into the L2. By tiles, block b takes items b, b + grid, ... By k-blocks, each block takes an equal run of
// all items' k-blocks; the block that has a tile's first k-blocks adds the others' parts in order of K. Two
// warpgroups multiply, the ninth warp feeds a ring that runs on from item to item. kGateUp: a stage holds 128
// rows of gate and 128 of up, so a thread owns gate and up of the same element; else 128 rows of W_down.
template <int kTokens, bool kGateUp>
__global__ __launch_bounds__(288, 1) void expert_gemm_kernel(const __grid_constant__ Params p) {
  constexpr int kMatrices = kGateUp ? 2 : 1;
  constexpr int kABytes = kMatrices * kTile * kBlockK, kBBytes = kTokens * kBlockK;
  extern __shared__ uint8_t unaligned[];
  uint8_t* smem =
      reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(unaligned) + 1023) & ~uintptr_t{1023});
  uint8_t* a_ring = smem;
  uint8_t* b_ring = a_ring + p.stages * kABytes;
  auto* scale_ring = reinterpret_cast<float*>(b_ring + p.stages * kBBytes);
  auto* full = reinterpret_cast<uint64_t*>(scale_ring + p.stages * kTokens);
  uint64_t* empty = full + p.stages;
  auto* maxima = reinterpret_cast<float*>(empty + p.stages);  // [8 warps, kTokens]

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (threadIdx.x == 0) {
    for (int s = 0; s < p.stages; ++s) {
      mbarrier_init(full + s, 1);
      mbarrier_init(empty + s, 256);
    }
    fence_barrier_init();
  }
  __syncthreads();
  if constexpr (kGateUp) wait_for_previous_kernel();  // the work list is its result
  // Down starts when every block of gate_up has got here: the work list is complete then, and only h is not.
  let_next_kernel_start();
  const int items = __ldcg(p.chunk_count) * p.tiles;

  int stage = 0, parity = 0;
  auto advance = [&] {
    if (++stage == p.stages) {
      stage = 0;
      parity ^= 1;
    }
  };

  if (warp == 8) {
    if (lane == 0) {
      prefetch_map(&p.weight);
      prefetch_map(&p.x);
      auto weight_row_of = [&](int item) {
        return __ldcg(&p.chunks[item / p.tiles].expert) * p.rows_per_expert + item % p.tiles * kTile;
      };
      auto load_weights = [&](int row, int k, int to) {
        mbarrier_expect(full + to, kABytes + kBBytes + kTokens * 4);
        uint8_t* a = a_ring + to * kABytes;
        tma_load(a, &p.weight, k * kBlockK, row, full + to, kEvictFirst);
        if constexpr (kGateUp) {
          tma_load(a + kTile * kBlockK, &p.weight, k * kBlockK, row + p.tiles * kTile, full + to,
                   kEvictFirst);
        }
      };
      int preloaded = 0;
      if constexpr (!kGateUp) {
        // While gate_up's last blocks run. (Weights beyond the ring, drawn into the L2, cost 8 us at B = 1 on
        // an H200.)
        Work w = no_work_yet(p, items);
        if (next_work(p, items, w)) {
          preloaded = min(w.k1 - w.k0, p.stages);
          const int row = weight_row_of(w.item);
          for (int k = 0; k < preloaded; ++k) load_weights(row, w.k0 + k, k);
        }
        wait_for_previous_kernel();
      }
      parity = 1;  // the first lap finds every stage empty
      for (Work w = no_work_yet(p, items); next_work(p, items, w);) {
        const int weight_row = weight_row_of(w.item);
        const int x_row = p.expert_slot != nullptr ? 0 : __ldcg(&p.chunks[w.item / p.tiles].first_slot);
        for (int k = w.k0; k < w.k1; ++k) {
          if (preloaded > 0) {
            --preloaded;
          } else {
            mbarrier_wait(empty + stage, parity);
            load_weights(weight_row, k, stage);
          }
          tma_load(b_ring + stage * kBBytes, &p.x, k * kBlockK, x_row, full + stage, kEvictLast);
          bulk_load(scale_ring + stage * kTokens, p.x_scale + int64_t{k} * p.x_scale_stride + x_row,
                    kTokens * 4, full + stage);
          advance();
        }
      }
    }
    return;
  }

  const int group = warp / 4;
  const int row = warp * 16 + lane / 4, token = 2 * (lane % 4);  // as in decode_gemm.cu
  for (Work w = no_work_yet(p, items); next_work(p, items, w);) {
    const int chunk_index = w.item / p.tiles, tile = w.item % p.tiles;
    const ExpertChunk chunk = load_chunk(p.chunks + chunk_index);
    const float* scales_of[kMatrices];
    const int scale_rows = p.rows_per_expert / kBlockK;
    for (int m = 0; m < kMatrices; ++m) {
      scales_of[m] = p.weight_scale + (int64_t{chunk.expert} * scale_rows + m * p.tiles + tile) * p.kblocks;
    }
    float next_scale[kMatrices];
    for (int m = 0; m < kMatrices; ++m) next_scale[m] = __ldg(scales_of[m] + w.k0);

    float sum[kMatrices][kTokens / 2];
#pragma unroll
    for (int m = 0; m < kMatrices; ++m) {
#pragma unroll
      for (int v = 0; v < kTokens / 2; ++v) sum[m][v] = 0.0f;
    }
    for (int k = w.k0; k < w.k1; ++k) {
      float weight_scale[kMatrices];
#pragma unroll
      for (int m = 0; m < kMatrices; ++m) {
        weight_scale[m] = next_scale[m];
        if (k + 1 < w.k1) next_scale[m] = __ldg(scales_of[m] + k + 1);
      }
      mbarrier_wait(full + stage, parity);
      float product[kMatrices][kTokens / 2];
      const uint64_t b = swizzle128_descriptor(smem_address(b_ring + stage * kBBytes));
#pragma unroll
      for (int m = 0; m < kMatrices; ++m) wgmma_hold(product[m]);
      wgmma_fence();
#pragma unroll
      for (int m = 0; m < kMatrices; ++m) {
        const uint64_t a = swizzle128_descriptor(
            smem_address(a_ring + stage * kABytes + (m * kTile + group * 64) * kBlockK));
#pragma unroll
        for (int s = 0; s < kBlockK / 32; ++s) wgmma_fp8(product[m], a + s * 2, b + s * 2, s > 0);
      }
      wgmma_commit();
      wgmma_wait<0>();
#pragma unroll
      for (int m = 0; m < kMatrices; ++m) wgmma_hold(product[m]);
      const float* scales = scale_ring + stage * kTokens + token;
#pragma unroll
      for (int t = 0; t < kTokens / 8; ++t) {
        const float2 x_scale = *reinterpret_cast<const float2*>(scales + 8 * t);
#pragma unroll
        for (int m = 0; m < kMatrices; ++m) {
          const float s0 = x_scale.x * weight_scale[m], s1 = x_scale.y * weight_scale[m];
          sum[m][4 * t + 0] += product[m][4 * t + 0] * s0;
          sum[m][4 * t + 1] += product[m][4 * t + 1] * s1;
          sum[m][4 * t + 2] += product[m][4 * t + 2] * s0;
          sum[m][4 * t + 3] += product[m][4 * t + 3] * s1;
        }
      }
      mbarrier_arrive(empty + stage);  // every lane: it has read its scales
      advance();
    }

    constexpr int kPartial = kMatrices * kTokens / 2 * 256;  // floats of a block
    if (w.k0 > 0) {                                          // another block finishes this tile
      float* to = p.partial + int64_t{blockIdx.x} * kPartial + threadIdx.x;
#pragma unroll
      for (int m = 0; m < kMatrices; ++m) {
#pragma unroll
        for (int v = 0; v < kTokens / 2; ++v) to[(m * (kTokens / 2) + v) * 256] = sum[m][v];
      }
      __threadfence();
      named_barrier(1, 256);
      if (threadIdx.x == 0) publish(p.flags + blockIdx.x);
      continue;
    }
    const int units = units_per_block(p, items);
    for (int done = w.k1, other = blockIdx.x + 1; done < p.kblocks; done += units, ++other) {
      if (threadIdx.x == 0) await(p.flags + other);
      named_barrier(1, 256);
      const float* from = p.partial + int64_t{other} * kPartial + threadIdx.x;
#pragma unroll
      for (int m = 0; m < kMatrices; ++m) {
#pragma unroll
        for (int v = 0; v < kTokens / 2; ++v) sum[m][v] += __ldcg(from + (m * (kTokens / 2) + v) * 256);
      }
    }

    if constexpr (!kGateUp) {
#pragma unroll
      for (int v = 0; v < kTokens / 2; ++v) {
        const int t = v / 4 * 8 + token + v % 2;
        if (t < chunk.count) {
          p.y[int64_t{chunk.first_slot + t} * p.rows_per_expert + tile * kTile + row + v / 2 % 2 * 8] =
              __float2bfloat16_rn(sum[0][v]);
        }
      }
    } else {
      // SwiGLU, then one scale per token over the tile's 128 columns.
#pragma unroll
      for (int v = 0; v < kTokens / 2; ++v) sum[0][v] = silu(sum[0][v]) * sum[1][v];
#pragma unroll
      for (int t = 0; t < kTokens / 8; ++t) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          float most = fmaxf(fabsf(sum[0][4 * t + c]), fabsf(sum[0][4 * t + 2 + c]));
#pragma unroll
          for (int step = 4; step < 32; step *= 2) most = fmaxf(most, __shfl_xor_sync(~0u, most, step));
          if (lane / 4 == 0) maxima[warp * kTokens + 8 * t + token + c] = most;
        }
      }
      named_barrier(1, 256);
#pragma unroll
      for (int t = 0; t < kTokens / 8; ++t) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const int column = 8 * t + token + c;
          int slot = -1;
          if (p.expert_slot == nullptr) {
            if (column < chunk.count) slot = chunk.first_slot + column;
          } else if (column < p.tokens) {
            slot = p.expert_slot[int64_t{chunk_index} * p.tokens + column];
          }
          if (slot < 0) continue;
          float most = 0.0f;
#pragma unroll
          for (int w = 0; w < 8; ++w) most = fmaxf(most, maxima[w * kTokens + column]);
          const float scale = fmaxf(most, 1e-30f) / 448.0f;
          const float inverse = 1.0f / scale;
          uint8_t* out = p.h + int64_t{slot} * (p.tiles * kTile) + tile * kTile + row;
          out[0] = __nv_cvt_float_to_fp8(sum[0][4 * t + c] * inverse, __NV_SATFINITE, __NV_E4M3);
          out[8] = __nv_cvt_float_to_fp8(sum[0][4 * t + 2 + c] * inverse, __NV_SATFINITE, __NV_E4M3);
          if (row == 0) p.h_scale[int64_t{tile} * p.h_scale_stride + slot] = scale;
        }
      }
      named_barrier(1, 256);  // the next item writes the maxima again
    }
  }
}

LaunchShape persistent(int sm_count, int smem_bytes) {
  const int blocks = sm_count < kStreamBlocksMax ? sm_count : kStreamBlocksMax;
  return {.grid = dim3(static_cast<unsigned>(blocks), 1, 1), .threads = 288, .smem_bytes = smem_bytes};
}

}  // namespace

Status plan_expert_gemm(ExpertGemmArgs& args) {
  const ExpertShape& s = args.shape;
  if (args.config.gate_up_tokens == 0) return internal_error("no grouped FP8 GEMM for this shape");
  const auto hidden = static_cast<uint64_t>(s.hidden), inner = static_cast<uint64_t>(s.intermediate);
  const auto experts = static_cast<uint64_t>(s.experts);
  GANTRY_ASSIGN_OR_RETURN(args.gate_up_map,
                          make_tensor_map({.base = args.weights.gate_up,
                                           .cols = hidden,
                                           .rows = experts * 2 * inner,
                                           .row_stride = hidden,
                                           .box_cols = kBlockK,
                                           .box_rows = kTile,
                                           .promotion = CU_TENSOR_MAP_L2_PROMOTION_L2_256B}));
  GANTRY_ASSIGN_OR_RETURN(args.x_map,
                          make_tensor_map({.base = args.x,
                                           .cols = hidden,
                                           .rows = static_cast<uint64_t>(args.x_rows_max),
                                           .row_stride = hidden,
                                           .box_cols = kBlockK,
                                           .box_rows = static_cast<uint32_t>(args.config.gate_up_tokens)}));
  GANTRY_ASSIGN_OR_RETURN(args.down_map, make_tensor_map({.base = args.weights.down,
                                                          .cols = inner,
                                                          .rows = experts * hidden,
                                                          .row_stride = inner,
                                                          .box_cols = kBlockK,
                                                          .box_rows = kTile}));
  GANTRY_ASSIGN_OR_RETURN(args.h_map,
                          make_tensor_map({.base = args.h,
                                           .cols = inner,
                                           .rows = static_cast<uint64_t>(slots_max(s)),
                                           .row_stride = inner,
                                           .box_cols = kBlockK,
                                           .box_rows = static_cast<uint32_t>(args.config.down_tokens)}));
  return Status();
}

Status launch_expert_gate_up(const ExpertGemmArgs& args, int sm_count, cudaStream_t stream) {
  const Params params{.weight = args.gate_up_map,
                      .x = args.x_map,
                      .weight_scale = args.weights.gate_up_scale,
                      .x_scale = args.x_scale,
                      .chunks = args.routing.chunks[0],
                      .chunk_count = args.routing.chunk_counts,
                      .expert_slot = args.config.gate_up_all ? args.routing.expert_slot : nullptr,
                      .h = args.h,
                      .h_scale = args.h_scale,
                      .y = nullptr,
                      .x_scale_stride = args.x_scale_stride,
                      .h_scale_stride = args.h_scale_stride,
                      .kblocks = args.shape.hidden / kBlockK,
                      .tiles = args.shape.intermediate / kTile,
                      .rows_per_expert = 2 * args.shape.intermediate,
                      .tokens = args.shape.tokens,
                      .stages = args.config.gate_up_stages,
                      .partial = args.partial,
                      .flags = args.routing.flags};
  const LaunchShape shape = persistent(sm_count, args.config.gate_up_smem_bytes);
  switch (args.config.gate_up_tokens) {
    case 8:
      return launch(expert_gemm_kernel<8, true>, shape, params, stream);
    case 16:
      return launch(expert_gemm_kernel<16, true>, shape, params, stream);
    case 32:
      return launch(expert_gemm_kernel<32, true>, shape, params, stream);
    default:
      return internal_error("no expert gate_up kernel for " + to_string(args.config));
  }
}

Status launch_expert_down(const ExpertGemmArgs& args, int sm_count, cudaStream_t stream) {
  const Params params{.weight = args.down_map,
                      .x = args.h_map,
                      .weight_scale = args.weights.down_scale,
                      .x_scale = args.h_scale,
                      .chunks = args.routing.chunks[1],
                      .chunk_count = args.routing.chunk_counts + 1,
                      .expert_slot = nullptr,
                      .h = nullptr,
                      .h_scale = nullptr,
                      .y = args.y,
                      .x_scale_stride = args.h_scale_stride,
                      .h_scale_stride = 0,
                      .kblocks = args.shape.intermediate / kBlockK,
                      .tiles = args.shape.hidden / kTile,
                      .rows_per_expert = args.shape.hidden,
                      .tokens = args.shape.tokens,
                      .stages = args.config.down_stages,
                      .partial = args.partial,
                      .flags = args.routing.flags + kStreamBlocksMax};
  const LaunchShape shape = persistent(sm_count, args.config.down_smem_bytes);
  switch (args.config.down_tokens) {
    case 8:
      return launch(expert_gemm_kernel<8, false>, shape, params, stream);
    case 16:
      return launch(expert_gemm_kernel<16, false>, shape, params, stream);
    default:
      return internal_error("no expert down kernel for " + to_string(args.config));
  }
}

}  // namespace gantry::sm90

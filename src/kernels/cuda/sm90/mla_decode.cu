#include "kernels/cuda/sm90/launch.h"
#include "kernels/cuda/sm90/mla_decode_launch.h"
#include "kernels/cuda/sm90/ptx.cuh"
#include "kernels/cuda/sm90/tensor_map.h"
#include "kernels/cuda/sm90/wgmma.cuh"

namespace gantry::sm90 {
namespace {

constexpr int kStages = 2;
constexpr int kChunks = kMlaKey / 64;  // of 64 columns: one swizzle atom wide
constexpr int kChunkBytes = 64 * 128;  // [64 rows, 64 bf16]
constexpr int kTileBytes = kChunks * kChunkBytes;
constexpr int kConsumers = 256;  // two warpgroups; a third feeds the ring and lends them its registers

struct Params {
  CUtensorMap q;
  CUtensorMap cache;
  const int32_t* block_table;
  const int32_t* table_of;
  const int32_t* lengths;
  float* partial;
  float* partial_lse;
  __nv_bfloat16* out;
  int table_stride, batch, heads, splits;
  float scale_log2;  // scale * log2(e)
};

__device__ __forceinline__ float quad_max(float v) {
  v = fmaxf(v, __shfl_xor_sync(~0u, v, 1));
  return fmaxf(v, __shfl_xor_sync(~0u, v, 2));
}
__device__ __forceinline__ float quad_sum(float v) {
  v += __shfl_xor_sync(~0u, v, 1);
  return v + __shfl_xor_sync(~0u, v, 2);
}

// Grid [head tiles, batch, splits]. Warpgroup w scores tokens 32 w .. 32 w + 31 of each block of 64 and owns
// value columns 256 w .. 256 w + 255 of the output; they exchange row maxima and probabilities through shared
// memory. The scores of block j + 1 are issued before the values of block j, so that the softmax hides behind
// them.
__global__ __launch_bounds__(kConsumers + 128, 1) void mla_decode_kernel(const __grid_constant__ Params p) {
  extern __shared__ uint8_t unaligned[];
  uint8_t* smem =
      reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(unaligned) + 1023) & ~uintptr_t{1023});
  uint8_t* q_tile = smem;
  uint8_t* ring = q_tile + kTileBytes;
  uint8_t* probabilities = ring + kStages * kTileBytes;  // [64 heads, 64 tokens] bf16, swizzled
  auto* exchange = reinterpret_cast<float*>(probabilities + 64 * 128);  // [2 warpgroups, 64 heads]
  auto* full = reinterpret_cast<uint64_t*>(exchange + 128);
  uint64_t* empty = full + kStages;
  uint64_t* q_full = empty + kStages;

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int head_tile = blockIdx.x, sequence = blockIdx.y, split = blockIdx.z;
  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) {
      mbarrier_init(full + s, 1);
      mbarrier_init(empty + s, kConsumers / 32);
    }
    mbarrier_init(q_full, 1);
    fence_barrier_init();
  }
  __syncthreads();
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int length = p.lengths[sequence];
  const int context_blocks = (length + kMlaTokens - 1) / kMlaTokens;
  const int begin = context_blocks * split / p.splits;
  const int count = context_blocks * (split + 1) / p.splits - begin;

  if (warp >= kConsumers / 32) {
    lower_registers<24>();
    if (threadIdx.x == kConsumers && count > 0) {
      prefetch_map(&p.q);
      prefetch_map(&p.cache);
      mbarrier_expect(q_full, kTileBytes);
      for (int c = 0; c < kChunks; ++c) {
        tma_load(q_tile + c * kChunkBytes, &p.q, c * 64, sequence * p.heads + head_tile * kMlaHeads, q_full,
                 kEvictFirst);
      }
      const int32_t* table =
          p.block_table + int64_t{p.table_of != nullptr ? p.table_of[sequence] : sequence} * p.table_stride +
          begin;
      for (int j = 0; j < count; ++j) {
        const int stage = j % kStages;
        const int row = table[j] * kMlaTokens;
        mbarrier_wait(empty + stage, (j / kStages & 1) ^ 1);
        mbarrier_expect(full + stage, kTileBytes);
        for (int c = 0; c < kChunks; ++c) {
          tma_load(ring + stage * kTileBytes + c * kChunkBytes, &p.cache, c * 64, row, full + stage,
                   kEvictLast);
        }
      }
    }
  } else {
    raise_registers<240>();
    const int group = warp / 4;
    const int row = warp % 4 * 16 + lane / 4;  // and row + 8: this thread's heads in the tile
    const int column = 2 * (lane % 4);
    float out[128];  // [2 rows x 256 columns of this thread]
#pragma unroll
    for (float& o : out) o = 0.0f;
    float top[2] = {-INFINITY, -INFINITY};  // running maximum of raw scores, of both warpgroups
    float sum[2] = {0.0f, 0.0f};            // of this warpgroup's tokens
    float scores[16];
    uint32_t packed[8];

    // The block's keys, with rows past the sequence's end zeroed: what is there may be no number.
    auto wait_keys = [&](int j) __attribute__((always_inline)) {
      const int stage = j % kStages;
      mbarrier_wait(full + stage, j / kStages & 1);
      const int valid = length - (begin + j) * kMlaTokens;
      if (valid < kMlaTokens) {
        for (int i = threadIdx.x; i < (kMlaTokens - valid) * 8 * kChunks; i += kConsumers) {
          const int r = valid + i / (8 * kChunks), c = i % (8 * kChunks);
          *reinterpret_cast<uint4*>(ring + stage * kTileBytes + c / 8 * kChunkBytes + r * 128 + c % 8 * 16) =
              make_uint4(0, 0, 0, 0);
        }
        fence_async_proxy();
        named_barrier(1, kConsumers);
      }
    };
    auto issue_scores = [&](int j) __attribute__((always_inline)) {
      const uint32_t q = smem_address(q_tile);
      const uint32_t k = smem_address(ring + j % kStages * kTileBytes) + group * 32 * 128;
      wgmma_hold(scores);
      wgmma_fence();
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        const uint64_t a = swizzle128_descriptor(q + c * kChunkBytes),
                       b = swizzle128_descriptor(k + c * kChunkBytes);
#pragma unroll
        for (int s = 0; s < 4; ++s) wgmma_bf16<0>(scores, a + s * 2, b + s * 2, c + s > 0);
      }
      wgmma_commit();
    };
    auto issue_values = [&](int j) __attribute__((always_inline)) {
      const uint32_t v = smem_address(ring + j % kStages * kTileBytes) + group * 4 * kChunkBytes;
      wgmma_hold(out);
      wgmma_fence();
#pragma unroll
      for (int s = 0; s < 4; ++s) {
        wgmma_bf16<1>(out, swizzle128_descriptor(smem_address(probabilities)) + s * 2,
                      swizzle128_descriptor(v + s * 2048, 1024, kChunkBytes), 1);
      }
      wgmma_commit();
    };
    // Scores to probabilities in `packed`; returns the factors that rescale what was summed before.
    auto softmax = [&](int j) __attribute__((always_inline)) {
      const int valid = length - (begin + j) * kMlaTokens - group * 32;
      float most[2] = {-INFINITY, -INFINITY};
#pragma unroll
      for (int v = 0; v < 16; ++v) {
        if (v / 4 * 8 + column + v % 2 >= valid) scores[v] = -INFINITY;
        most[v / 2 % 2] = fmaxf(most[v / 2 % 2], scores[v]);
      }
      most[0] = quad_max(most[0]);
      most[1] = quad_max(most[1]);
      if (lane % 4 == 0) {
        exchange[group * 64 + row] = most[0];
        exchange[group * 64 + row + 8] = most[1];
      }
      named_barrier(1, kConsumers);
      float2 factors;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        // The first token of a block is always visible: the maximum is finite.
        const float now = fmaxf(top[r], fmaxf(most[r], exchange[(group ^ 1) * 64 + row + 8 * r]));
        const float factor = exp2f((top[r] - now) * p.scale_log2);
        (r == 0 ? factors.x : factors.y) = factor;
        sum[r] *= factor;
        top[r] = now;
      }
#pragma unroll
      for (int v = 0; v < 16; v += 2) {
        const int r = v / 2 % 2;
        const float a = exp2f((scores[v] - top[r]) * p.scale_log2),
                    b = exp2f((scores[v + 1] - top[r]) * p.scale_log2);
        sum[r] += a + b;
        const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
        packed[v / 2] = *reinterpret_cast<const uint32_t*>(&pair);
      }
      return factors;
    };
    auto store_probabilities = [&]() __attribute__((always_inline)) {
#pragma unroll
      for (int v = 0; v < 8; ++v) {
        const int r = row + v % 2 * 8;
        const int chunk = group * 4 + v / 2;  // of 8 tokens
        *reinterpret_cast<uint32_t*>(probabilities + r * 128 + ((chunk ^ (r & 7)) << 4) + column * 2) =
            packed[v];
      }
      fence_async_proxy();
      named_barrier(1, kConsumers);
    };

    if (count > 0) {
      mbarrier_wait(q_full, 0);
      wait_keys(0);
      issue_scores(0);
      wgmma_wait<0>();
      wgmma_hold(scores);
      softmax(0);
      store_probabilities();
      for (int j = 0; j + 1 < count; ++j) {
        issue_values(j);
        wait_keys(j + 1);
        issue_scores(j + 1);
        wgmma_wait<1>();
        wgmma_hold(out);
        if (lane == 0) mbarrier_arrive(empty + j % kStages);
        wgmma_wait<0>();
        wgmma_hold(scores);
        // Its barrier follows both warpgroups' values of block j: the probabilities may be overwritten.
        const float2 factors = softmax(j + 1);
        store_probabilities();
        if (__any_sync(~0u, factors.x != 1.0f || factors.y != 1.0f)) {
#pragma unroll
          for (int i = 0; i < 128; ++i) out[i] *= i / 2 % 2 == 0 ? factors.x : factors.y;
        }
      }
      issue_values(count - 1);
      wgmma_wait<0>();
      wgmma_hold(out);
      sum[0] = quad_sum(sum[0]);
      sum[1] = quad_sum(sum[1]);
      named_barrier(1, kConsumers);
      if (lane % 4 == 0) {
        exchange[group * 64 + row] = sum[0];
        exchange[group * 64 + row + 8] = sum[1];
      }
      named_barrier(1, kConsumers);
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int head = head_tile * kMlaHeads + row + 8 * r;
      if (head >= p.heads) continue;
      const int64_t at = int64_t{sequence} * p.heads + head;
      const float total = count > 0 ? exchange[row + 8 * r] + exchange[64 + row + 8 * r] : 1.0f;
      const float inverse = 1.0f / total;
      if (p.splits == 1) {
        __nv_bfloat16* to = p.out + at * kMlaValue + group * 256 + column;
#pragma unroll
        for (int i = 0; i < 32; ++i) {
          *reinterpret_cast<__nv_bfloat162*>(to + 8 * i) =
              __floats2bfloat162_rn(out[4 * i + 2 * r] * inverse, out[4 * i + 2 * r + 1] * inverse);
        }
        continue;
      }
      const int64_t part = int64_t{split} * p.batch * p.heads + at;
      if (group == 0 && column == 0) {
        p.partial_lse[part] = count > 0 ? top[r] * p.scale_log2 + log2f(total) : -INFINITY;
      }
      if (count == 0) continue;  // a part without tokens: the merge leaves it out
      float* to = p.partial + part * kMlaValue + group * 256 + column;
#pragma unroll
      for (int i = 0; i < 32; ++i) {
        *reinterpret_cast<float2*>(to + 8 * i) =
            make_float2(out[4 * i + 2 * r] * inverse, out[4 * i + 2 * r + 1] * inverse);
      }
    }
  }
}

struct MergeParams {
  const float* partial;
  const float* partial_lse;
  __nv_bfloat16* out;
  int rows, splits;  // rows: batch * heads
};

// One block of 128 threads a row, 4 columns a thread; parts in order.
__global__ __launch_bounds__(128) void mla_merge_kernel(const __grid_constant__ MergeParams p) {
  __shared__ float weights[64];
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int row = blockIdx.x;
  if (threadIdx.x < 64) {
    weights[threadIdx.x] =
        threadIdx.x < p.splits ? p.partial_lse[int64_t{threadIdx.x} * p.rows + row] : -INFINITY;
  }
  __syncthreads();
  float most = -INFINITY;
  for (int s = 0; s < p.splits; ++s) most = fmaxf(most, weights[s]);
  float total = 0.0f;
  float4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
  for (int s = 0; s < p.splits; ++s) {
    const float weight = exp2f(weights[s] - most);
    if (weight == 0.0f) continue;
    const float4 v =
        reinterpret_cast<const float4*>(p.partial + (int64_t{s} * p.rows + row) * kMlaValue)[threadIdx.x];
    total += weight;
    sum.x += weight * v.x;
    sum.y += weight * v.y;
    sum.z += weight * v.z;
    sum.w += weight * v.w;
  }
  const float inverse = 1.0f / total;
  const __nv_bfloat162 halves[2] = {__floats2bfloat162_rn(sum.x * inverse, sum.y * inverse),
                                    __floats2bfloat162_rn(sum.z * inverse, sum.w * inverse)};
  reinterpret_cast<uint2*>(p.out + int64_t{row} * kMlaValue)[threadIdx.x] =
      *reinterpret_cast<const uint2*>(halves);
}

}  // namespace

Status plan_mla_decode(MlaDecodeArgs& args) {
  if (args.config.head_tiles == 0) return internal_error("no MLA decode kernel for this shape");
  TensorMapSpec spec{
      .type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
      .element_bytes = 2,
      .base = args.q,
      .cols = kMlaKey,
      .rows = static_cast<uint64_t>(args.shape.batch) * static_cast<uint64_t>(args.shape.heads),
      .row_stride = kMlaKey * 2,
      .box_cols = 64,
      .box_rows = 64};
  GANTRY_ASSIGN_OR_RETURN(args.q_map, make_tensor_map(spec));
  spec.base = args.cache;
  spec.rows = static_cast<uint64_t>(args.cache_blocks) * kMlaTokens;
  GANTRY_ASSIGN_OR_RETURN(args.cache_map, make_tensor_map(spec));
  return Status();
}

Status launch_mla_decode(const MlaDecodeArgs& args, cudaStream_t stream) {
  const Params params{.q = args.q_map,
                      .cache = args.cache_map,
                      .block_table = args.block_table,
                      .table_of = args.table_of,
                      .lengths = args.lengths,
                      .partial = args.partial,
                      .partial_lse = args.partial_lse,
                      .out = args.out,
                      .table_stride = args.table_stride,
                      .batch = args.shape.batch,
                      .heads = args.shape.heads,
                      .splits = args.config.splits,
                      .scale_log2 = args.scale * 1.4426950408889634f};
  const LaunchShape shape{
      .grid = dim3(static_cast<unsigned>(args.config.head_tiles), static_cast<unsigned>(args.shape.batch),
                   static_cast<unsigned>(args.config.splits)),
      .threads = kConsumers + 128,
      .smem_bytes = args.config.smem_bytes};
  GANTRY_RETURN_IF_ERROR(launch(mla_decode_kernel, shape, params, stream));
  if (args.config.splits == 1) return Status();
  const int rows = args.shape.batch * args.shape.heads;
  const MergeParams merge{args.partial, args.partial_lse, args.out, rows, args.config.splits};
  return launch(mla_merge_kernel, {.grid = dim3(static_cast<unsigned>(rows), 1, 1), .threads = 128}, merge,
                stream);
}

}  // namespace gantry::sm90

#include "kernels/cuda/sm90/launch.h"
#include "kernels/cuda/sm90/mla_decode.h"
#include "kernels/cuda/sm90/mla_prefill_launch.h"
#include "kernels/cuda/sm90/ptx.cuh"
#include "kernels/cuda/sm90/quad.cuh"
#include "kernels/cuda/sm90/tensor_map.h"
#include "kernels/cuda/sm90/wgmma.cuh"

namespace gantry::sm90 {
namespace {

constexpr int kTile = kMlaPrefillTile;
constexpr int kHead = kMlaPrefillNope + kMlaPrefillRope;
constexpr int kChunkBytes = kTile * 128;  // [128 rows, 64 bf16]: one swizzle atom wide
constexpr int kConsumers = 256;           // two warpgroups of 64 rows; a third feeds them

// What the kernels of a launch share about its sequences.
struct Sequences {
  MlaPrefillSequence of[kMlaPrefillSequences];
  int count;
};

struct GatherParams {
  Sequences sequences;
  const __nv_bfloat16* cache;
  const int32_t* block_table;
  int table_stride;
  __nv_bfloat16* latents;
  int keys;
};

// One warp a key; the rest of a sequence's last tile is zeros, because the values of keys that no row sees are
// multiplied all the same.
__global__ __launch_bounds__(256) void gather_kernel(const __grid_constant__ GatherParams p) {
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int key = blockIdx.x * 8 + threadIdx.x / 32;
  if (key >= p.keys) return;
  int s = 0;
  while (s + 1 < p.sequences.count && p.sequences.of[s + 1].first_key <= key) ++s;
  const MlaPrefillSequence& sequence = p.sequences.of[s];
  const int position = key - sequence.first_key;
  auto* to = reinterpret_cast<uint4*>(p.latents + int64_t{key} * kMlaKey);
  const bool inside = position < sequence.first_position + sequence.rows;
  const uint4* from = nullptr;
  if (inside) {
    const int block = p.block_table[int64_t{sequence.table} * p.table_stride + position / kMlaTokens];
    from = reinterpret_cast<const uint4*>(p.cache +
                                          (int64_t{block} * kMlaTokens + position % kMlaTokens) * kMlaKey);
  }
  for (int i = threadIdx.x % 32; i < kMlaKey / 8; i += 32) to[i] = inside ? from[i] : make_uint4(0, 0, 0, 0);
}

struct ExpandParams {
  CUtensorMap latents, w_uk, w_uv;
  __nv_bfloat16* k;
  __nv_bfloat16* v;
  int keys, first_head, heads;
};
constexpr int kExpandStages = 4, kExpandStageBytes = 3 * kChunkBytes;
constexpr int kExpandSmem = kExpandStages * kExpandStageBytes + 1024 + 128;
constexpr int kExpandBlocks = kMlaValue / 64;

// Persistent over tiles of 128 keys and a head, keys first: k = c W_UK and v = c W_UV^T at once.
__global__ __launch_bounds__(kConsumers + 128, 1) void expand_kernel(const __grid_constant__ ExpandParams p) {
  extern __shared__ uint8_t unaligned[];
  uint8_t* ring =
      reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(unaligned) + 1023) & ~uintptr_t{1023});
  auto* full = reinterpret_cast<uint64_t*>(ring + kExpandStages * kExpandStageBytes);
  uint64_t* empty = full + kExpandStages;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (threadIdx.x == 0) {
    for (int s = 0; s < kExpandStages; ++s) {
      mbarrier_init(full + s, 1);
      mbarrier_init(empty + s, kConsumers / 32);
    }
    fence_barrier_init();
  }
  __syncthreads();
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int key_tiles = p.keys / kTile, tiles = key_tiles * p.heads;
  PipelineState<kExpandStages> at;

  if (warp >= kConsumers / 32) {
    lower_registers<24>();
    if (threadIdx.x == kConsumers) {
      for (int t = blockIdx.x; t < tiles; t += gridDim.x) {
        const int head = p.first_head + t / key_tiles, key = t % key_tiles * kTile;
        for (int k = 0; k < kExpandBlocks; ++k) {
          uint8_t* to = ring + at.stage * kExpandStageBytes;
          uint64_t* barrier = full + at.stage;
          mbarrier_wait(empty + at.stage, at.parity ^ 1);
          mbarrier_expect(barrier, kExpandStageBytes);
          tma_load(to, &p.latents, k * 64, key, barrier, kEvictLast);
          tma_load(to + kChunkBytes, &p.w_uk, 0, head * kMlaValue + k * 64, barrier, kEvictLast);
          tma_load(to + kChunkBytes + kChunkBytes / 2, &p.w_uk, 64, head * kMlaValue + k * 64, barrier,
                   kEvictLast);
          tma_load(to + 2 * kChunkBytes, &p.w_uv, k * 64, head * kMlaPrefillValue, barrier, kEvictLast);
          at.advance();
        }
      }
    }
  } else {
    raise_registers<240>();
    const int group = warp / 4, row = warp * 16 + lane / 4;
    for (int t = blockIdx.x; t < tiles; t += gridDim.x) {
      float k_sum[64], v_sum[64];
      for (int k = 0; k < kExpandBlocks; ++k) {
        const uint32_t from = smem_address(ring + at.stage * kExpandStageBytes);
        mbarrier_wait(full + at.stage, at.parity);
        const uint64_t a = swizzle128_descriptor(from + group * 64 * 128);
        const uint64_t v = swizzle128_descriptor(from + 2 * kChunkBytes);
        wgmma_hold(k_sum);
        wgmma_hold(v_sum);
        wgmma_fence();
#pragma unroll
        for (int s = 0; s < 4; ++s) {
          const uint64_t uk = swizzle128_descriptor(from + kChunkBytes + s * 2048, 1024, kChunkBytes / 2);
          wgmma_bf16<1>(k_sum, a + s * 2, uk, k + s > 0);
          wgmma_bf16<0>(v_sum, a + s * 2, v + s * 2, k + s > 0);
        }
        wgmma_commit();
        wgmma_wait<0>();
        wgmma_hold(k_sum);
        wgmma_hold(v_sum);
        if (lane == 0) mbarrier_arrive(empty + at.stage);
        at.advance();
      }
      const int64_t first = int64_t{t / key_tiles} * p.keys + t % key_tiles * kTile + row;
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        store_row_bf16(p.k + (first + 8 * j) * kMlaPrefillNope, k_sum + 2 * j, true, 128, lane);
        store_row_bf16(p.v + (first + 8 * j) * kMlaPrefillValue, v_sum + 2 * j, true, 128, lane);
      }
    }
  }
}

struct AttendParams {
  CUtensorMap q, latents, k, v;
  Sequences sequences;
  float* out;
  int keys, heads, first_head;
  float scale_log2;  // scale * log2(e)
};
constexpr int kStages = 2;
constexpr int kKeyBytes = 3 * kChunkBytes, kValueBytes = 2 * kChunkBytes;

__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Grid [tiles of rows of all sequences, heads of the turn]: the tiles of a head run together, so that its keys come from
// the L2, the last and longest of a sequence first. Warpgroup g takes rows 64 g .. 64 g + 63. The scores of block j + 1
// are issued before the values of block j, so that the softmax hides behind them.
__global__ __launch_bounds__(kConsumers + 128, 1) void attend_kernel(const __grid_constant__ AttendParams p) {
  extern __shared__ uint8_t unaligned[];
  uint8_t* q_tile =
      reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(unaligned) + 1023) & ~uintptr_t{1023});
  uint8_t* key_ring = q_tile + kKeyBytes;
  uint8_t* value_ring = key_ring + kStages * kKeyBytes;
  auto* key_full = reinterpret_cast<uint64_t*>(value_ring + kStages * kValueBytes);
  uint64_t* value_full = key_full + kStages;
  uint64_t* key_empty = value_full + kStages;
  uint64_t* value_empty = key_empty + kStages;
  uint64_t* q_full = value_empty + kStages;

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) {
      mbarrier_init(key_full + s, 1);
      mbarrier_init(value_full + s, 1);
      mbarrier_init(key_empty + s, kConsumers / 32);
      mbarrier_init(value_empty + s, kConsumers / 32);
    }
    mbarrier_init(q_full, 1);
    fence_barrier_init();
  }
  __syncthreads();
  let_next_kernel_start();
  wait_for_previous_kernel();
  int s = 0, tile = blockIdx.x;
  while (tile >= (p.sequences.of[s].rows + kTile - 1) / kTile) {
    tile -= (p.sequences.of[s].rows + kTile - 1) / kTile;
    ++s;
  }
  const MlaPrefillSequence& sequence = p.sequences.of[s];
  const int first = ((sequence.rows + kTile - 1) / kTile - 1 - tile) * kTile;  // row of the sequence
  const int rows = min(kTile, sequence.rows - first);
  const int head = p.first_head + blockIdx.y;
  const int blocks = (sequence.first_position + first + rows + kTile - 1) / kTile;

  if (warp >= kConsumers / 32) {
    lower_registers<24>();
    if (threadIdx.x == kConsumers) {
      mbarrier_expect(q_full, kKeyBytes);
      for (int c = 0; c < 3; ++c) {
        tma_load(q_tile + c * kChunkBytes, &p.q, head * kHead + c * 64, sequence.first_row + first, q_full,
                 kEvictFirst);
      }
      const int turn_row = static_cast<int>(blockIdx.y) * p.keys;
      for (int j = 0; j < blocks; ++j) {
        const int stage = j % kStages, parity = (j / kStages & 1) ^ 1;
        const int key = sequence.first_key + j * kTile;
        uint8_t* keys = key_ring + stage * kKeyBytes;
        uint8_t* values = value_ring + stage * kValueBytes;
        mbarrier_wait(key_empty + stage, parity);
        mbarrier_expect(key_full + stage, kKeyBytes);
        tma_load(keys, &p.k, 0, turn_row + key, key_full + stage, kEvictLast);
        tma_load(keys + kChunkBytes, &p.k, 64, turn_row + key, key_full + stage, kEvictLast);
        tma_load(keys + 2 * kChunkBytes, &p.latents, kMlaValue, key, key_full + stage, kEvictLast);
        mbarrier_wait(value_empty + stage, parity);
        mbarrier_expect(value_full + stage, kValueBytes);
        tma_load(values, &p.v, 0, turn_row + key, value_full + stage, kEvictLast);
        tma_load(values + kChunkBytes, &p.v, 64, turn_row + key, value_full + stage, kEvictLast);
      }
    }
  } else {
    raise_registers<240>();
    const int group = warp / 4;
    const int row = warp * 16 + lane / 4;  // and row + 8: this thread's rows of the tile
    const int column = 2 * (lane % 4);     // + 8 i, and the one after it
    const int position = sequence.first_position + first + row;
    const int all_see =
        sequence.first_position + first + group * 64;  // keys up to here: every row of the group
    float scores[64], out[64];
    uint32_t probabilities[32];
    float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0.0f, 0.0f};
#pragma unroll
    for (float& o : out) o = 0.0f;

    auto issue_scores = [&](int j) __attribute__((always_inline)) {
      const uint32_t q = smem_address(q_tile) + group * 64 * 128;
      const uint32_t k = smem_address(key_ring + j % kStages * kKeyBytes);
      wgmma_hold(scores);
      wgmma_fence();
#pragma unroll
      for (int c = 0; c < 3; ++c) {
        const uint64_t a = swizzle128_descriptor(q + c * kChunkBytes),
                       b = swizzle128_descriptor(k + c * kChunkBytes);
#pragma unroll
        for (int i = 0; i < 4; ++i) wgmma_bf16<0>(scores, a + i * 2, b + i * 2, c + i > 0);
      }
      wgmma_commit();
    };
    auto issue_values = [&](int j) __attribute__((always_inline)) {
      const uint32_t v = smem_address(value_ring + j % kStages * kValueBytes);
      wgmma_hold(out);
      wgmma_fence();
#pragma unroll
      for (int i = 0; i < kTile / 16; ++i) {
        wgmma_bf16<1>(out, probabilities + 4 * i, swizzle128_descriptor(v + i * 2048, 1024, kChunkBytes));
      }
      wgmma_commit();
    };
    // Scores to probabilities in place; returns the factors that rescale what was summed before.
    auto softmax = [&](int j) __attribute__((always_inline)) {
      if (j * kTile + kTile - 1 > all_see) {
#pragma unroll
        for (int v = 0; v < 64; ++v) {
          if (j * kTile + v / 4 * 8 + column + v % 2 > position + v / 2 % 2 * 8) scores[v] = -INFINITY;
        }
      }
      float2 factors;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float most = scores[2 * r];
#pragma unroll
        for (int i = 0; i < 16; ++i)
          most = fmaxf(most, fmaxf(scores[4 * i + 2 * r], scores[4 * i + 2 * r + 1]));
        // The first block holds position 0, which every row sees: the maximum is finite.
        const float now = fmaxf(top[r], quad_max(most));
        const float factor = exp2_fast((top[r] - now) * p.scale_log2), shift = now * p.scale_log2;
        (r == 0 ? factors.x : factors.y) = factor;
        top[r] = now;
        float total = 0.0f;
#pragma unroll
        for (int i = 0; i < 16; ++i) {
#pragma unroll
          for (int c = 0; c < 2; ++c) {
            float& score = scores[4 * i + 2 * r + c];
            score = exp2_fast(fmaf(score, p.scale_log2, -shift));
            total += score;
          }
        }
        sum[r] = sum[r] * factor + total;
      }
      return factors;
    };
    auto pack = [&]() __attribute__((always_inline)) {
#pragma unroll
      for (int i = 0; i < 32; ++i) probabilities[i] = pack_bf16(scores[2 * i], scores[2 * i + 1]);
    };

    mbarrier_wait(q_full, 0);
    mbarrier_wait(key_full, 0);
    issue_scores(0);
    wgmma_wait<0>();
    wgmma_hold(scores);
    if (lane == 0) mbarrier_arrive(key_empty);
    softmax(0);
    pack();
    for (int j = 0; j + 1 < blocks; ++j) {
      mbarrier_wait(key_full + (j + 1) % kStages, (j + 1) / kStages & 1);
      issue_scores(j + 1);
      mbarrier_wait(value_full + j % kStages, j / kStages & 1);
      issue_values(j);
      wgmma_wait<1>();
      wgmma_hold(scores);
      if (lane == 0) mbarrier_arrive(key_empty + (j + 1) % kStages);
      const float2 factors = softmax(j + 1);
      wgmma_wait<0>();
      wgmma_hold(out);
      if (lane == 0) mbarrier_arrive(value_empty + j % kStages);
#pragma unroll
      for (int i = 0; i < 64; ++i) out[i] *= i / 2 % 2 == 0 ? factors.x : factors.y;
      pack();
    }
    mbarrier_wait(value_full + (blocks - 1) % kStages, (blocks - 1) / kStages & 1);
    issue_values(blocks - 1);
    wgmma_wait<0>();
    wgmma_hold(out);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float inverse = 1.0f / quad_sum(sum[r]);
      if (row + 8 * r >= rows) continue;
      float* to = p.out +
                  (int64_t{sequence.first_row + first + row + 8 * r} * p.heads + head) * kMlaPrefillValue +
                  column;
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        *reinterpret_cast<float2*>(to + 8 * i) =
            make_float2(out[4 * i + 2 * r] * inverse, out[4 * i + 2 * r + 1] * inverse);
      }
    }
  }
}

// Grid [rows], a thread a pair of a head.
__global__ __launch_bounds__(256) void rope_kernel(const __grid_constant__ MlaPrefillRopeArgs p) {
  constexpr int kPairs = kMlaPrefillRope / 2;
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int64_t row = blockIdx.x;
  for (int i = threadIdx.x; i < p.heads * kPairs; i += 256) {
    const int pair = i % kPairs;
    __nv_bfloat16* x = p.q + (row * p.heads + i / kPairs) * kHead + kMlaPrefillNope;
    __nv_bfloat16* first = x + (p.interleaved ? 2 * pair : pair);
    __nv_bfloat16* second = x + (p.interleaved ? 2 * pair + 1 : pair + kPairs);
    const float a = __bfloat162float(*first), b = __bfloat162float(*second);
    const float cos = p.cos[row * kPairs + pair], sin = p.sin[row * kPairs + pair];
    *first = __float2bfloat16_rn(__fsub_rn(__fmul_rn(a, cos), __fmul_rn(b, sin)));
    *second = __float2bfloat16_rn(__fadd_rn(__fmul_rn(b, cos), __fmul_rn(a, sin)));
  }
}

Result<CUtensorMap> map_of(const __nv_bfloat16* base, int64_t rows, int64_t cols, int box_rows) {
  return make_tensor_map({.type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                          .element_bytes = 2,
                          .base = base,
                          .cols = static_cast<uint64_t>(cols),
                          .rows = static_cast<uint64_t>(rows),
                          .row_stride = static_cast<uint64_t>(cols) * 2,
                          .box_cols = 64,
                          .box_rows = static_cast<uint32_t>(box_rows)});
}

}  // namespace

Status launch_mla_prefill(const MlaPrefillArgs& args, int sm_count, cudaStream_t stream) {
  if (args.config.heads < 1 || args.sequences.empty() || args.sequences.size() > kMlaPrefillSequences) {
    return internal_error("no MLA prefill of " + std::to_string(args.sequences.size()) + " sequences, " +
                          to_string(args.config));
  }
  Sequences sequences{};
  sequences.count = static_cast<int>(args.sequences.size());
  int64_t row_tiles = 0;
  for (size_t i = 0; i < args.sequences.size(); ++i) {
    sequences.of[i] = args.sequences[i];
    row_tiles += (args.sequences[i].rows + kTile - 1) / kTile;
  }
  const int keys = static_cast<int>(args.keys);
  const GatherParams gather{sequences, args.cache, args.block_table, args.table_stride, args.latents, keys};
  GANTRY_RETURN_IF_ERROR(launch(gather_kernel,
                                {.grid = dim3(static_cast<unsigned>((keys + 7) / 8), 1, 1), .threads = 256},
                                gather, stream));
  ExpandParams expand{};
  expand.k = args.k;
  expand.v = args.v;
  expand.keys = keys;
  AttendParams attend{};
  attend.sequences = sequences;
  attend.out = args.out;
  attend.keys = keys;
  attend.heads = args.heads;
  attend.scale_log2 = args.scale * 1.4426950408889634f;
  const int64_t turn_rows = args.config.heads * args.keys;
  GANTRY_ASSIGN_OR_RETURN(expand.latents, map_of(args.latents, args.keys, kMlaKey, kTile));
  GANTRY_ASSIGN_OR_RETURN(expand.w_uk,
                          map_of(args.w_uk, int64_t{args.heads} * kMlaValue, kMlaPrefillNope, 64));
  GANTRY_ASSIGN_OR_RETURN(expand.w_uv,
                          map_of(args.w_uv, int64_t{args.heads} * kMlaPrefillValue, kMlaValue, kTile));
  GANTRY_ASSIGN_OR_RETURN(attend.q, map_of(args.q, args.q_rows, int64_t{args.heads} * kHead, kTile));
  GANTRY_ASSIGN_OR_RETURN(attend.k, map_of(args.k, turn_rows, kMlaPrefillNope, kTile));
  GANTRY_ASSIGN_OR_RETURN(attend.v, map_of(args.v, turn_rows, kMlaPrefillValue, kTile));
  attend.latents = expand.latents;
  for (int head = 0; head < args.heads; head += args.config.heads) {
    const int heads = args.heads - head < args.config.heads ? args.heads - head : args.config.heads;
    expand.first_head = attend.first_head = head;
    expand.heads = heads;
    GANTRY_RETURN_IF_ERROR(launch(expand_kernel,
                                  {.grid = dim3(static_cast<unsigned>(sm_count), 1, 1),
                                   .threads = kConsumers + 128,
                                   .smem_bytes = kExpandSmem},
                                  expand, stream));
    GANTRY_RETURN_IF_ERROR(
        launch(attend_kernel,
               {.grid = dim3(static_cast<unsigned>(row_tiles), static_cast<unsigned>(heads), 1),
                .threads = kConsumers + 128,
                .smem_bytes = args.config.smem_bytes},
               attend, stream));
  }
  return Status();
}

Status launch_mla_prefill_rope(const MlaPrefillRopeArgs& args, cudaStream_t stream) {
  return launch(rope_kernel, {.grid = dim3(static_cast<unsigned>(args.rows), 1, 1), .threads = 256}, args,
                stream);
}

}  // namespace gantry::sm90

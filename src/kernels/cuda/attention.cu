#include "kernels/cuda/attention.h"
#include "kernels/cuda/kv_cache.cuh"
#include "kernels/cuda/sm90/launch.h"
#include "kernels/cuda/sm90/ptx.cuh"

namespace gantry::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;
constexpr int kLanes = 8;  // that share one position's dot products
constexpr int kColumns = (kAttentionDimMax + kThreads - 1) / kThreads;  // of the value, of a thread
constexpr int kAhead = 4;                                               // loads of a thread in flight

struct Params {
  const float* q;
  float* out;
  float* partial;
  DeviceKv kv;
  const int32_t* positions;
  const int32_t* segments;
  const int32_t* tables;
  int table_stride;
  int heads, group, tiles, value_dim;
  bool value_is_key;
  float scale;
  int partitions;  // side by side, or 1
};

// One softmax over part of a context: its maximum, its sum of exponentials and its weighted values add up as these.
struct Fold {
  float earlier, later;  // factors
};
__device__ __forceinline__ Fold fold(float& most, float part_most) {
  const float now = fmaxf(most, part_most);
  const Fold f{expf(most - now), expf(part_most - now)};
  most = now;
  return f;
}
__device__ __forceinline__ float folded(const Fold& f, float sum, float part) {
  return fmaf(part, f.later, __fmul_rn(sum, f.earlier));
}

// kVector values of T: 16 bytes, or one value.
template <typename T, int kVector>
struct Raw {
  uint4 bits;
  __device__ __forceinline__ void load(const T* from) { bits = *reinterpret_cast<const uint4*>(from); }
  __device__ __forceinline__ float value(int i) const {
    return static_cast<float>(reinterpret_cast<const T*>(&bits)[i]);
  }
};
template <typename T>
struct Raw<T, 1> {
  T one;
  __device__ __forceinline__ void load(const T* from) { one = *from; }
  __device__ __forceinline__ float value(int) const { return static_cast<float>(one); }
};

// Grid [rows, kv_heads * tiles, partitions]: a row and up to kHeads heads of one KV head.
template <typename T, int kHeads, int kVector>
__global__ __launch_bounds__(kThreads) void attention_kernel(const __grid_constant__ Params p) {
  __shared__ float q[kHeads][kAttentionDimMax];
  __shared__ float weights[kHeads][kAttentionPartition];
  __shared__ float part_most[kHeads], part_sum[kHeads];
  __shared__ int blocks[kAttentionPartition / kTokens];
  __shared__ float exchange[kThreads * kVector > kAttentionDimMax ? kThreads * kVector : kAttentionDimMax];
  sm90::let_next_kernel_start();
  sm90::wait_for_previous_kernel();
  const int64_t row = blockIdx.x;
  const int kv_head = blockIdx.y / p.tiles;
  const int first_head = blockIdx.y % p.tiles * kHeads;  // in the group
  const int heads = min(kHeads, p.group - first_head);
  const int64_t head_at = row * p.heads + kv_head * p.group + first_head;
  const int context = p.positions[row] + 1, key_dim = p.kv.key_dim;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int count = (context + kAttentionPartition - 1) / kAttentionPartition;
  const int across = min(kThreads, (p.value_dim + kVector - 1) / kVector), groups = kThreads / across;
  const int group = static_cast<int>(threadIdx.x) / across;
  const bool apart = p.partitions > 1;
  if (apart && static_cast<int>(blockIdx.z) >= count) return;

  for (int i = threadIdx.x; i < kHeads * key_dim; i += kThreads) {
    const int h = i / key_dim, d = i % key_dim;
    q[h][d] = h < heads ? p.q[(head_at + h) * key_dim + d] : 0.0f;
  }
  const int32_t* table = p.tables + int64_t{p.segments[row]} * p.table_stride;
  float most[kHeads], sum[kHeads], out[kHeads][kColumns];
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    most[h] = -INFINITY;
    sum[h] = 0.0f;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) out[h][c] = 0.0f;
  }

  for (int part = apart ? blockIdx.z : 0; part < (apart ? static_cast<int>(blockIdx.z) + 1 : count); ++part) {
    const int begin = part * kAttentionPartition;
    const int positions = min(kAttentionPartition, context - begin);
    __syncthreads();  // q is there; the last part's weights are read
    if (threadIdx.x < kAttentionPartition / kTokens && static_cast<int>(threadIdx.x) * kTokens < positions) {
      blocks[threadIdx.x] = table[begin / kTokens + threadIdx.x];
    }
    __syncthreads();
    constexpr int kStep = kWarps * (32 / kLanes);  // positions that the block takes at once
    for (int first = warp * (32 / kLanes) + lane / kLanes; first - lane / kLanes < positions;
         first += kAhead * kStep) {
      float dots[kAhead][kHeads] = {};
      for (int d = lane % kLanes * kVector; d < key_dim; d += kLanes * kVector) {
        Raw<T, kVector> keys[kAhead];
#pragma unroll
        for (int u = 0; u < kAhead; ++u) {
          const int j = first + u * kStep;
          if (j < positions) keys[u].load(key_at<T>(p.kv, blocks[j / kTokens], j % kTokens, kv_head) + d);
        }
#pragma unroll
        for (int u = 0; u < kAhead; ++u) {
          if (first + u * kStep >= positions) continue;
#pragma unroll
          for (int i = 0; i < kVector; ++i) {
            const float k = keys[u].value(i);
#pragma unroll
            for (int h = 0; h < kHeads; ++h) dots[u][h] = fmaf(q[h][d + i], k, dots[u][h]);
          }
        }
      }
#pragma unroll
      for (int u = 0; u < kAhead; ++u) {
        const int j = first + u * kStep;
#pragma unroll
        for (int h = 0; h < kHeads; ++h) {
#pragma unroll
          for (int step = 1; step < kLanes; step *= 2) dots[u][h] += __shfl_xor_sync(~0u, dots[u][h], step);
          if (j < positions && lane % kLanes == 0) weights[h][j] = dots[u][h] * p.scale;
        }
      }
    }
    __syncthreads();
    for (int h = warp; h < heads; h += kWarps) {
      float largest = -INFINITY;
      for (int j = lane; j < positions; j += 32) largest = fmaxf(largest, weights[h][j]);
#pragma unroll
      for (int step = 16; step > 0; step /= 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, step));
      float total = 0.0f;
      for (int j = lane; j < positions; j += 32) {
        const float weight = expf(weights[h][j] - largest);
        weights[h][j] = weight;
        total += weight;
      }
#pragma unroll
      for (int step = 16; step > 0; step /= 2) total += __shfl_xor_sync(~0u, total, step);
      if (lane == 0) {
        part_most[h] = largest;
        part_sum[h] = total;
      }
    }
    __syncthreads();
    // `across` threads share a value; group g of them takes positions g, g + groups, ...
    constexpr int kVectors = (kAttentionDimMax + kThreads * kVector - 1) / (kThreads * kVector);
    float sums[kHeads][kVectors][kVector] = {};
    if (group < groups) {
      for (int j0 = group; j0 < positions; j0 += kAhead * groups) {
#pragma unroll
        for (int c = 0; c < kVectors; ++c) {
          const int d = (c * kThreads + static_cast<int>(threadIdx.x) - group * across) * kVector;
          if (d >= p.value_dim) continue;
          Raw<T, kVector> values[kAhead];
#pragma unroll
          for (int u = 0; u < kAhead; ++u) {
            const int j = j0 + u * groups;
            if (j >= positions) continue;
            const int block = blocks[j / kTokens];
            values[u].load((p.value_is_key ? key_at<T>(p.kv, block, j % kTokens, kv_head)
                                           : value_at<T>(p.kv, block, j % kTokens, kv_head)) +
                           d);
          }
#pragma unroll
          for (int u = 0; u < kAhead; ++u) {
            const int j = j0 + u * groups;
            if (j >= positions) continue;
#pragma unroll
            for (int h = 0; h < kHeads; ++h) {
              const float weight = weights[h][j];
#pragma unroll
              for (int i = 0; i < kVector; ++i)
                sums[h][c][i] = fmaf(weight, values[u].value(i), sums[h][c][i]);
            }
          }
        }
      }
    }
    float values[kHeads][kColumns] = {};
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      __syncthreads();  // the groups' sums of the head before are added
#pragma unroll
      for (int c = 0; c < kVectors; ++c) {
        const int d = (c * kThreads + static_cast<int>(threadIdx.x) - group * across) * kVector;
        if (group >= groups || d >= p.value_dim) continue;
#pragma unroll
        for (int i = 0; i < kVector; ++i) exchange[group * p.value_dim + d + i] = sums[h][c][i];
      }
      __syncthreads();
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        const int d = c * kThreads + threadIdx.x;
        if (d >= p.value_dim) break;
        for (int g = 0; g < groups; ++g) values[h][c] += exchange[g * p.value_dim + d];
      }
    }
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      if (h >= heads) break;
      if (apart) {
        float* to = p.partial + ((head_at + h) * p.partitions + part) * (p.value_dim + 2);
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
          const int d = c * kThreads + threadIdx.x;
          if (d < p.value_dim) to[d] = values[h][c];
        }
        if (threadIdx.x == 0) {
          to[p.value_dim] = part_most[h];
          to[p.value_dim + 1] = part_sum[h];
        }
        continue;
      }
      const Fold f = fold(most[h], part_most[h]);
      sum[h] = folded(f, sum[h], part_sum[h]);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) out[h][c] = folded(f, out[h][c], values[h][c]);
    }
  }
  if (apart) return;
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    if (h >= heads) break;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const int d = c * kThreads + threadIdx.x;
      if (d < p.value_dim) p.out[(head_at + h) * p.value_dim + d] = out[h][c] / sum[h];
    }
  }
}

// One block a row and head: the parts in order.
__global__ __launch_bounds__(kThreads) void merge_kernel(const __grid_constant__ Params p) {
  sm90::let_next_kernel_start();
  sm90::wait_for_previous_kernel();
  const int64_t head = blockIdx.x;
  const int context = p.positions[head / p.heads] + 1;
  const int count = (context + kAttentionPartition - 1) / kAttentionPartition;
  for (int d = threadIdx.x; d < p.value_dim; d += kThreads) {
    float most = -INFINITY, sum = 0.0f, out = 0.0f;
    for (int part = 0; part < count; ++part) {
      const float* from = p.partial + (head * p.partitions + part) * (p.value_dim + 2);
      const Fold f = fold(most, from[p.value_dim]);
      sum = folded(f, sum, from[p.value_dim + 1]);
      out = folded(f, out, from[d]);
    }
    p.out[head * p.value_dim + d] = out / sum;
  }
}

template <typename T, int kVector>
Status launch_heads(int head_tile, const sm90::LaunchShape& shape, const Params& params,
                    cudaStream_t stream) {
  switch (head_tile) {
    case 1:
      return sm90::launch(attention_kernel<T, 1, kVector>, shape, params, stream);
    case 2:
      return sm90::launch(attention_kernel<T, 2, kVector>, shape, params, stream);
    case 4:
      return sm90::launch(attention_kernel<T, 4, kVector>, shape, params, stream);
    default:
      return sm90::launch(attention_kernel<T, 8, kVector>, shape, params, stream);
  }
}

template <typename T>
Status launch_dtype(int head_tile, const sm90::LaunchShape& shape, const Params& params,
                    cudaStream_t stream) {
  constexpr int kVector = 16 / sizeof(T);
  const bool whole = params.kv.key_dim % kVector == 0 && params.value_dim % kVector == 0;
  return whole ? launch_heads<T, kVector>(head_tile, shape, params, stream)
               : launch_heads<T, 1>(head_tile, shape, params, stream);
}

}  // namespace

Status launch_attention(State& state, const AttentionArgs& args) {
  const DeviceStep& step = state.step();
  const KvLayout& layout = args.kv.layout;
  const AttentionConfig config = choose_attention(
      {args.rows, args.heads, layout.kv_heads, args.value_dim, step.context}, state.sm_count());
  if (config.head_tile == 0 || layout.key_dim > kAttentionDimMax || args.value_dim > kAttentionDimMax) {
    return internal_error("no attention kernel for " + std::to_string(args.heads) + " heads of " +
                          std::to_string(layout.key_dim));
  }
  const Params params{
      .q = args.q,
      .out = args.out,
      .partial = args.partial,
      .kv = {static_cast<uint8_t*>(args.kv.base), args.kv.block_stride, layout.kv_heads, layout.key_dim,
             layout.value_dim},
      .positions = step.positions,
      .segments = step.segments,
      .tables = step.tables,
      .table_stride = step.table_stride,
      .heads = args.heads,
      .group = args.heads / layout.kv_heads,
      .tiles = config.tiles,
      .value_dim = args.value_dim,
      .value_is_key = args.value_is_key,
      .scale = args.scale,
      .partitions = config.partitions,
  };
  const sm90::LaunchShape shape{
      .grid = dim3(static_cast<unsigned>(args.rows), static_cast<unsigned>(layout.kv_heads * config.tiles),
                   static_cast<unsigned>(config.partitions)),
      .threads = kThreads};
  const Status status = layout.dtype == DType::kF32
                            ? launch_dtype<float>(config.head_tile, shape, params, state.stream())
                        : layout.dtype == DType::kF16
                            ? launch_dtype<__half>(config.head_tile, shape, params, state.stream())
                            : launch_dtype<__nv_bfloat16>(config.head_tile, shape, params, state.stream());
  if (!status.ok() || config.partitions == 1) return status;
  return sm90::launch(
      merge_kernel, {.grid = dim3(static_cast<unsigned>(args.rows * args.heads), 1, 1), .threads = kThreads},
      params, state.stream());
}

}  // namespace gantry::cuda

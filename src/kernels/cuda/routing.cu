#include "base/limits.h"
#include "kernels/cuda/routing.h"
#include "kernels/cuda/sm90/launch.h"
#include "kernels/cuda/sm90/ptx.cuh"

namespace gantry::cuda {
namespace {

using sm90::launch;

constexpr int kExpertsMax = limits::kExpertsMax;
constexpr int kSortThreads = 1024;
static_assert(kExpertsMax <= kSortThreads, "one thread an expert");

constexpr int kLogitThreads = 128, kLogitRows = 4;

struct GateLogitsParams {
  GateLogitsArgs args;
  int64_t rows;
};

// Grid [experts, rows / kLogitRows]: an expert's weights are read once for kLogitRows rows.
__global__ __launch_bounds__(kLogitThreads) void gate_logits_kernel(
    const __grid_constant__ GateLogitsParams p) {
  __shared__ float warps[kLogitRows][kLogitThreads / 32];
  const int64_t first = int64_t{blockIdx.y} * kLogitRows;
  const float* weight = p.args.weight + int64_t{blockIdx.x} * p.args.hidden;
  sm90::let_next_kernel_start();
  sm90::wait_for_previous_kernel();
  float sums[kLogitRows] = {};
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < p.args.hidden; i += kLogitThreads) {
    const float w = __ldg(weight + i);
#pragma unroll
    for (int r = 0; r < kLogitRows; ++r) {
      if (first + r < p.rows) sums[r] = fmaf(p.args.x[(first + r) * p.args.hidden + i], w, sums[r]);
    }
  }
#pragma unroll
  for (int r = 0; r < kLogitRows; ++r) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) sums[r] += __shfl_xor_sync(~0u, sums[r], step);
    if (threadIdx.x % 32 == 0) warps[r][threadIdx.x / 32] = sums[r];
  }
  __syncthreads();
  const int r = threadIdx.x;
  if (r >= kLogitRows || first + r >= p.rows) return;
  float total = 0.0f;
#pragma unroll
  for (int w = 0; w < kLogitThreads / 32; ++w) total += warps[r][w];
  p.args.logits[(first + r) * p.args.experts + blockIdx.x] = total;
}

struct GateKernelParams {
  GateArgs args;
  int64_t rows;
};

struct Best {
  float score;
  int index;
};
// The best of the warp; of equal scores the lower index.
__device__ __forceinline__ Best warp_best(Best best) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    const float score = __shfl_xor_sync(~0u, best.score, step);
    const int index = __shfl_xor_sync(~0u, best.index, step);
    if (score > best.score || (score == best.score && index < best.index)) best = {score, index};
  }
  return best;
}
// Of `count` scores, among those not taken.
__device__ __forceinline__ Best best_of(const float* scores, const uint8_t* taken, int count, int lane) {
  Best best{-INFINITY, kExpertsMax};
  for (int i = lane; i < count; i += 32) {
    if (!taken[i] && (best.index == kExpertsMax || scores[i] > best.score)) best = {scores[i], i};
  }
  return warp_best(best);
}

// One warp a row.
__global__ __launch_bounds__(32) void gate_kernel(const __grid_constant__ GateKernelParams p) {
  __shared__ float scores[kExpertsMax], biased[kExpertsMax], groups[kExpertsMax];
  __shared__ uint8_t taken[kExpertsMax], group_taken[kExpertsMax];
  sm90::let_next_kernel_start();
  sm90::wait_for_previous_kernel();
  const GateParams& gate = p.args.params;
  const int64_t row = blockIdx.x;
  const int lane = threadIdx.x, size = gate.experts / gate.groups;
  for (int e = lane; e < gate.experts; e += 32) {
    scores[e] = 1.0f / (1.0f + expf(-p.args.logits[row * gate.experts + e]));
    biased[e] = scores[e] + (p.args.bias != nullptr ? p.args.bias[e] : 0.0f);
  }
  __syncwarp();
  for (int g = lane; g < gate.groups; g += 32) {
    float best = -INFINITY, second = -INFINITY;
    for (int e = g * size; e < (g + 1) * size; ++e) {
      second = fmaxf(second, fminf(best, biased[e]));
      best = fmaxf(best, biased[e]);
    }
    groups[g] = size == 1 ? best : best + second;
    group_taken[g] = 0;
  }
  __syncwarp();
  for (int k = 0; k < gate.topk_group; ++k) {
    const Best best = best_of(groups, group_taken, gate.groups, lane);
    __syncwarp();
    if (lane == 0) group_taken[best.index] = 1;
    __syncwarp();
  }
  for (int e = lane; e < gate.experts; e += 32) taken[e] = !group_taken[e / size];
  __syncwarp();
  for (int k = 0; k < gate.experts_per_token; ++k) {
    const Best best = best_of(biased, taken, gate.experts, lane);
    __syncwarp();
    if (lane == 0) taken[best.index] = 2;
    __syncwarp();
  }
  // Ascending by expert: the sum is the reference's.
  int32_t* ids = p.args.routing.ids + row * gate.experts_per_token;
  float* weights = p.args.routing.weights + row * gate.experts_per_token;
  int before = 0;
  float sum = 0.0f;
  for (int base = 0; base < gate.experts; base += 32) {
    const int e = base + lane;
    const bool mine = e < gate.experts && taken[e] == 2;
    const uint32_t lanes = __ballot_sync(~0u, mine);
    if (mine) ids[before + __popc(lanes & ((1u << lane) - 1))] = e;
    for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) sum += scores[base + __ffs(rest) - 1];
    before += __popc(lanes);
  }
  __syncwarp();
  const float factor = gate.normalize ? gate.scaling / (sum + 1e-20f) : gate.scaling;
  for (int k = lane; k < gate.experts_per_token; k += 32) weights[k] = scores[ids[k]] * factor;
}

// One block, thread e for expert e, which takes its rows in order.
__global__ __launch_bounds__(kSortThreads) void sort_kernel(const __grid_constant__ GateKernelParams p) {
  __shared__ int16_t ids[kPicksMax];
  __shared__ int counts[kSortThreads];
  sm90::let_next_kernel_start();
  sm90::wait_for_previous_kernel();
  const GateParams& gate = p.args.params;
  const Routing& routing = p.args.routing;
  const int picks = static_cast<int>(p.rows) * gate.experts_per_token, e = threadIdx.x;
  for (int i = e; i < picks; i += kSortThreads) ids[i] = static_cast<int16_t>(routing.ids[i]);
  __syncthreads();
  int count = 0;
  if (e < gate.experts) {
    for (int i = 0; i < picks; ++i) count += ids[i] == e;
  }
  counts[e] = count;
  __syncthreads();
  for (int step = 1; step < kSortThreads; step *= 2) {  // inclusive sums
    const int add = e >= step ? counts[e - step] : 0;
    __syncthreads();
    counts[e] += add;
    __syncthreads();
  }
  if (e >= gate.experts) return;
  int slot = counts[e] - count;
  routing.offsets[e] = slot;
  if (e == gate.experts - 1) routing.offsets[gate.experts] = counts[e];
  for (int i = 0; i < picks; ++i) {
    if (ids[i] != e) continue;
    routing.slot_of[i] = slot;
    routing.token_of[slot++] = i / gate.experts_per_token;
  }
}

__global__ __launch_bounds__(256) void combine_kernel(const __grid_constant__ CombineArgs p) {
  sm90::let_next_kernel_start();
  sm90::wait_for_previous_kernel();
  const int64_t row = blockIdx.y, i = int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (i >= p.hidden) return;
  float sum = p.out[row * p.hidden + i];
  for (int k = 0; k < p.picks; ++k) {
    const int64_t pick = row * p.picks + k;
    sum = fmaf(p.routing.weights[pick], p.y[p.routing.slot_of[pick] * p.hidden + i], sum);
  }
  p.out[row * p.hidden + i] = sum;
}

}  // namespace

Status launch_gate_logits(const GateLogitsArgs& args, int64_t rows, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(args.experts),
                  static_cast<unsigned>((rows + kLogitRows - 1) / kLogitRows), 1);
  return launch(gate_logits_kernel, {.grid = grid, .threads = kLogitThreads}, GateLogitsParams{args, rows},
                stream);
}

Status launch_gate(const GateArgs& args, int64_t rows, cudaStream_t stream) {
  return launch(gate_kernel, {.grid = dim3(static_cast<unsigned>(rows), 1, 1), .threads = 32},
                GateKernelParams{args, rows}, stream);
}

Status launch_sort_picks(const GateArgs& args, int64_t rows, cudaStream_t stream) {
  return launch(sort_kernel, {.threads = kSortThreads}, GateKernelParams{args, rows}, stream);
}

Status launch_combine(const CombineArgs& args, int64_t rows, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>((args.hidden + 255) / 256), static_cast<unsigned>(rows), 1);
  return launch(combine_kernel, {.grid = grid, .threads = 256}, args, stream);
}

}  // namespace gantry::cuda

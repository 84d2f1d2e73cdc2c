#include "kernels/cuda/sm90/launch.h"
#include "kernels/cuda/sm90/prefill_routing.h"
#include "kernels/cuda/sm90/ptx.cuh"

namespace gantry::sm90 {
namespace {

constexpr int kThreads = kPrefillExpertsMax;  // thread e for expert e
constexpr int kBlockPicks = 2048;

struct Params {
  PrefillDispatchArgs args;
  int picks, blocks, slots;
};

int blocks_of(const PrefillDispatchShape& s) { return (s.rows * s.picks + kBlockPicks - 1) / kBlockPicks; }

// counts[block, expert]: picks of the block's part that fell on the expert.
__global__ __launch_bounds__(kThreads) void count_kernel(const __grid_constant__ Params p) {
  __shared__ int counts[kPrefillExpertsMax];
  counts[threadIdx.x] = 0;
  let_next_kernel_start();
  wait_for_previous_kernel();
  __syncthreads();
  const int first = blockIdx.x * kBlockPicks, end = min(p.picks, first + kBlockPicks);
  for (int i = first + threadIdx.x; i < end; i += kThreads) atomicAdd(counts + p.args.routing.ids[i], 1);
  __syncthreads();
  const int experts = p.args.shape.experts;
  if (static_cast<int>(threadIdx.x) < experts) {
    p.args.counts[blockIdx.x * experts + threadIdx.x] = counts[threadIdx.x];
  }
}

// Sums of what the threads before hold, of two counts.
__device__ __forceinline__ int2 exclusive_sums(int2 v, int2* total) {
  __shared__ int2 warps[kThreads / 32];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int2 sum = v;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const int x = __shfl_up_sync(~0u, sum.x, step), y = __shfl_up_sync(~0u, sum.y, step);
    if (lane >= step) {
      sum.x += x;
      sum.y += y;
    }
  }
  if (lane == 31) warps[warp] = sum;
  __syncthreads();
  int2 before = {0, 0};
  *total = {0, 0};
  for (int w = 0; w < kThreads / 32; ++w) {
    if (w == warp) before = *total;
    total->x += warps[w].x;
    total->y += warps[w].y;
  }
  return {before.x + sum.x - v.x, before.y + sum.y - v.y};
}

// Every block finds the experts' first slots by itself; the first also writes the list of chunks and marks the slots
// that no pick fills.
__global__ __launch_bounds__(kThreads) void assign_kernel(const __grid_constant__ Params p) {
  __shared__ int next[kPrefillExpertsMax];
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int e = threadIdx.x, experts = p.args.shape.experts;
  int before = 0, count = 0;
  if (e < experts) {
    for (int b = 0; b < p.blocks; ++b) {
      const int c = p.args.counts[b * experts + e];
      if (b < static_cast<int>(blockIdx.x)) before += c;
      count += c;
    }
  }
  const int room = (count + kSlotAlign - 1) / kSlotAlign * kSlotAlign;
  const int chunks = (count + kPrefillRows - 1) / kPrefillRows;
  int2 total;
  const int2 first = exclusive_sums({room, chunks}, &total);
  next[e] = first.x + before;
  if (blockIdx.x == 0) {
    for (int c = 0; c < chunks; ++c) {
      p.args.chunks[first.y + c] = {e, first.x + c * kPrefillRows,
                                    min(kPrefillRows, count - c * kPrefillRows), first.y, chunks};
    }
    for (int s = count; s < room; ++s) p.args.routing.token_of[first.x + s] = -1;
    for (int s = total.x + e; s < p.slots; s += kThreads) p.args.routing.token_of[s] = -1;
    if (e == 0) *p.args.chunk_count = total.y;
    if (e < 2) p.args.next_tiles[e] = 0;
  }
  __syncthreads();
  const int begin = blockIdx.x * kBlockPicks, end = min(p.picks, begin + kBlockPicks);
  for (int i = begin + e; i < end; i += kThreads) {
    const int slot = atomicAdd(next + p.args.routing.ids[i], 1);
    p.args.routing.slot_of[i] = slot;
    p.args.routing.token_of[slot] = i / p.args.shape.picks;
  }
}

constexpr int kScatterThreads = 256, kScatterPieces = 4;  // of 16 bytes, of a thread

// A block a row, which is read once.
__global__ __launch_bounds__(kScatterThreads) void scatter_kernel(
    const __grid_constant__ PrefillScatterArgs p) {
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int row = blockIdx.x, pieces = p.hidden / 16, groups = p.hidden / 128;
  const auto* from = reinterpret_cast<const uint4*>(p.x + int64_t{row} * p.hidden);
  uint4 piece[kScatterPieces];
#pragma unroll
  for (int i = 0; i < kScatterPieces; ++i) {
    const int at = i * kScatterThreads + threadIdx.x;
    if (at < pieces) piece[i] = from[at];
  }
  const int group = threadIdx.x;  // of the row's scales
  const float scale = group < groups ? p.x_scale[int64_t{group} * p.x_scale_stride + row] : 0.0f;
  for (int k = 0; k < p.shape.picks; ++k) {
    const int64_t slot = p.slot_of[row * p.shape.picks + k];
    auto* to = reinterpret_cast<uint4*>(p.slots + slot * p.hidden);
#pragma unroll
    for (int i = 0; i < kScatterPieces; ++i) {
      const int at = i * kScatterThreads + threadIdx.x;
      if (at < pieces) to[at] = piece[i];
    }
    if (group < groups) p.slot_scale[int64_t{group} * p.slot_scale_stride + slot] = scale;
  }
}

}  // namespace

int prefill_slots(const PrefillDispatchShape& s) {
  const int picks = s.rows * s.picks, hit = picks < s.experts ? picks : s.experts;
  return (picks + hit * (kSlotAlign - 1) + kPrefillRows + 127) / 128 * 128;
}

int prefill_chunks(const PrefillDispatchShape& s) {
  const int picks = s.rows * s.picks;
  return (picks < s.experts ? picks : s.experts) + picks / kPrefillRows;
}

int64_t prefill_count_words(const PrefillDispatchShape& s) { return int64_t{blocks_of(s)} * s.experts; }

Status launch_prefill_dispatch(const PrefillDispatchArgs& args, cudaStream_t stream) {
  const PrefillDispatchShape& s = args.shape;
  if (s.rows < 1 || s.picks < 1 || s.experts < 1 || s.experts > kPrefillExpertsMax) {
    return internal_error("no dispatch of " + std::to_string(s.rows) + " rows to " +
                          std::to_string(s.experts) + " experts");
  }
  const Params params{args, s.rows * s.picks, blocks_of(s), prefill_slots(s)};
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(params.blocks), 1, 1), .threads = kThreads};
  GANTRY_RETURN_IF_ERROR(launch(count_kernel, shape, params, stream));
  return launch(assign_kernel, shape, params, stream);
}

Status launch_prefill_scatter(const PrefillScatterArgs& args, cudaStream_t stream) {
  if (args.hidden % 128 != 0 || args.hidden > 16 * kScatterThreads * kScatterPieces) {
    return internal_error("no scatter of rows of " + std::to_string(args.hidden));
  }
  return launch(scatter_kernel,
                {.grid = dim3(static_cast<unsigned>(args.shape.rows), 1, 1), .threads = kScatterThreads},
                args, stream);
}

}  // namespace gantry::sm90

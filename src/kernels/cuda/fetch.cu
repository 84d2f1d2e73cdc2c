#include "kernels/cuda/fetch.h"
#include "kernels/cuda/sm90/launch.h"

namespace gantry::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kBlocksMax = 64;

// Past the caches: the host writes the buffer anew for every other step.
__device__ __forceinline__ uint4 load_host(const uint4* from) {
  uint4 v;
  asm volatile("ld.volatile.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from));
  return v;
}

__global__ __launch_bounds__(kThreads) void fetch_kernel(const __grid_constant__ FetchParams p) {
  const int32_t turn = *static_cast<volatile int32_t*>(p.turn);
  const auto* from = reinterpret_cast<const uint4*>(p.from[turn]);
  auto* to = reinterpret_cast<uint4*>(p.to);
  const int64_t first_id = p.ids / 16;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < p.bytes / 16;
       i += int64_t{gridDim.x} * kThreads) {
    uint4 v = load_host(from + i);
    if (i >= first_id && (i - first_id) * 4 < p.id_count) {
      uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const auto id = static_cast<int32_t>(words[j]);
        const int64_t slot = -1 - int64_t{id};
        if ((i - first_id) * 4 + j < p.id_count && id < 0 && slot < p.slots) {
          words[j] = static_cast<uint32_t>(p.last[slot]);
        }
      }
      v = make_uint4(words[0], words[1], words[2], words[3]);
    }
    to[i] = v;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  __threadfence();
  if (atomicAdd(p.arrived, 1) == static_cast<int32_t>(gridDim.x) - 1) {
    *p.arrived = 0;
    *p.turn = (turn + 1) % kStepsAhead;
  }
}

}  // namespace

Status launch_fetch(const FetchParams& params, cudaStream_t stream) {
  const int64_t blocks = (params.bytes / 16 + kThreads - 1) / kThreads;
  return sm90::launch(fetch_kernel,
                      {.grid = dim3(static_cast<unsigned>(blocks < kBlocksMax ? blocks : kBlocksMax), 1, 1),
                       .threads = kThreads,
                       .overlap = false},
                      params, stream);
}

}  // namespace gantry::cuda

#include "kernels/cuda/kv_cache.cuh"
#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/sm90/launch.h"
#include "kernels/cuda/sm90/ptx.cuh"

namespace gantry::cuda {
namespace {

using sm90::let_next_kernel_start;
using sm90::wait_for_previous_kernel;

constexpr int kThreads = 256;

struct Angles {
  const float* cos;  // of the row
  const float* sin;
  int pairs;
  bool interleaved;
};

// Value i of the rotated vector x.
template <typename T>
__device__ __forceinline__ float rotated(const Angles& angles, const T* x, int i) {
  if (i >= 2 * angles.pairs) return static_cast<float>(x[i]);
  const int pair = angles.interleaved ? i / 2 : i % angles.pairs;
  const int first = angles.interleaved ? 2 * pair : pair;
  const int second = angles.interleaved ? 2 * pair + 1 : pair + angles.pairs;
  const float a = static_cast<float>(x[first]), b = static_cast<float>(x[second]), cos = angles.cos[pair],
              sin = angles.sin[pair];
  return i == first ? __fsub_rn(__fmul_rn(a, cos), __fmul_rn(b, sin))
                    : __fadd_rn(__fmul_rn(b, cos), __fmul_rn(a, sin));
}

struct Rows {
  const int32_t* positions;
  const int32_t* segments;
  const int32_t* tables;
  int table_stride;
  const float* cos;
  const float* sin;
};
Rows rows_of(const DeviceStep& step) {
  return {step.positions, step.segments, step.tables, step.table_stride, step.cos, step.sin};
}
DeviceKv device_kv(const KvView& kv) {
  return {static_cast<uint8_t*>(kv.base), kv.block_stride, kv.layout.kv_heads, kv.layout.key_dim,
          kv.layout.value_dim};
}
__device__ __forceinline__ int block_of(const Rows& rows, int64_t row, int position) {
  return rows.tables[int64_t{rows.segments[row]} * rows.table_stride + position / kTokens];
}

struct QkvParams {
  const float* qkv;
  float* q;
  int heads, head_dim, pairs;
  bool interleaved;
  DeviceKv kv;
  Rows rows;
};

template <typename T>
__global__ __launch_bounds__(kThreads) void deliver_qkv_kernel(const __grid_constant__ QkvParams p) {
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int64_t row = blockIdx.x;
  const int position = p.rows.positions[row], token = position % kTokens;
  const int block = block_of(p.rows, row, position);
  const Angles angles{p.rows.cos + row * p.pairs, p.rows.sin + row * p.pairs, p.pairs, p.interleaved};
  const int q_width = p.heads * p.head_dim, kv_width = p.kv.kv_heads * p.head_dim;
  const float* qkv = p.qkv + row * (q_width + 2 * kv_width);
  for (int at = threadIdx.x; at < q_width + 2 * kv_width; at += kThreads) {
    const int head = at / p.head_dim, i = at % p.head_dim;
    const float* x = qkv + head * p.head_dim;
    if (head < p.heads) {
      p.q[row * q_width + at] = rotated(angles, x, i);
    } else if (head < p.heads + p.kv.kv_heads) {
      key_at<T>(p.kv, block, token, head - p.heads)[i] = from_f32<T>(rotated(angles, x, i));
    } else {
      value_at<T>(p.kv, block, token, head - p.heads - p.kv.kv_heads)[i] = from_f32<T>(x[i]);
    }
  }
}

struct MlaParams {
  const float* a;
  int64_t a_stride, a_first;
  const float* norm_weight;
  float eps;
  const void* q_b;
  void* q;
  int heads, latent, nope, rope_dim, pairs;
  bool interleaved;
  DeviceKv kv;
  Rows rows;
};

constexpr int kDeliveredHeads = 16;  // of one block

// Grid [rows, 1 + heads / kDeliveredHeads]: the row's cache entry, and its queries' rope.
template <typename T, typename Q>
__global__ __launch_bounds__(kThreads) void deliver_mla_kernel(const __grid_constant__ MlaParams p) {
  __shared__ float warps[kThreads / 32];
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int64_t row = blockIdx.x;
  const int position = p.rows.positions[row];
  const Angles angles{p.rows.cos + row * p.pairs, p.rows.sin + row * p.pairs, p.pairs, p.interleaved};
  if (blockIdx.y > 0) {
    const int first = static_cast<int>(blockIdx.y - 1) * kDeliveredHeads;
    const int count = min(kDeliveredHeads, p.heads - first);
    for (int at = threadIdx.x; at < count * p.rope_dim; at += kThreads) {
      const int64_t head = row * p.heads + first + at / p.rope_dim;
      const int i = at % p.rope_dim;
      const Q* rope = static_cast<const Q*>(p.q_b) + head * (p.nope + p.rope_dim) + p.nope;
      static_cast<Q*>(p.q)[head * (p.latent + p.rope_dim) + p.latent + i] =
          from_f32<Q>(rotated(angles, rope, i));
    }
    return;
  }
  const float* latent = p.a + row * p.a_stride + p.a_first;
  float factor = 1.0f;
  if (p.norm_weight != nullptr) {
    float squares = 0.0f;
    for (int i = threadIdx.x; i < p.latent; i += kThreads) squares = fmaf(latent[i], latent[i], squares);
#pragma unroll
    for (int step = 16; step > 0; step /= 2) squares += __shfl_xor_sync(~0u, squares, step);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = squares;
    __syncthreads();
    float total = 0.0f;
#pragma unroll
    for (int w = 0; w < kThreads / 32; ++w) total += warps[w];
    factor = 1.0f / sqrtf(total / static_cast<float>(p.latent) + p.eps);
  }
  T* key = key_at<T>(p.kv, block_of(p.rows, row, position), position % kTokens, 0);
  for (int i = threadIdx.x; i < p.latent; i += kThreads) {
    key[i] = from_f32<T>(p.norm_weight != nullptr ? latent[i] * factor * p.norm_weight[i] : latent[i]);
  }
  for (int i = threadIdx.x; i < p.rope_dim; i += kThreads) {
    key[p.latent + i] = from_f32<T>(rotated(angles, latent + p.latent, i));
  }
}

template <typename Params>
Status launch_for(DType dtype, void (*f32)(Params), void (*f16)(Params), void (*bf16)(Params), dim3 grid,
                  const Params& params, cudaStream_t stream) {
  const sm90::LaunchShape shape{.grid = grid, .threads = kThreads};
  return sm90::launch(dtype == DType::kF32 ? f32 : dtype == DType::kF16 ? f16 : bf16, shape, params, stream);
}

}  // namespace

size_t kv_block_bytes(const KvLayout& layout) {
  return static_cast<size_t>(kTokens) * static_cast<size_t>(layout.kv_heads) *
         static_cast<size_t>(layout.key_dim + layout.value_dim) *
         static_cast<size_t>(dtype_info(layout.dtype).block_bytes);
}

Status launch_deliver_qkv(State& state, const DeliverQkv& args, int64_t rows) {
  const QkvParams params{args.qkv,   args.q,           args.heads,         args.head_dim,
                         args.pairs, args.interleaved, device_kv(args.kv), rows_of(state.step())};
  return launch_for(args.kv.layout.dtype, deliver_qkv_kernel<float>, deliver_qkv_kernel<__half>,
                    deliver_qkv_kernel<__nv_bfloat16>, dim3(static_cast<unsigned>(rows), 1, 1), params,
                    state.stream());
}

Status launch_deliver_mla(State& state, const DeliverMla& args, int64_t rows) {
  const MlaParams params{
      args.a,        args.a_stride, args.a_first,     args.norm.weight,   args.norm.eps,
      args.q_b,      args.q,        args.heads,       args.latent,        args.nope,
      args.rope_dim, args.pairs,    args.interleaved, device_kv(args.kv), rows_of(state.step())};
  const dim3 grid(static_cast<unsigned>(rows),
                  static_cast<unsigned>(1 + (args.heads + kDeliveredHeads - 1) / kDeliveredHeads), 1);
  if (args.q_dtype == DType::kBF16) {
    return launch_for<MlaParams>(DType::kBF16, nullptr, nullptr,
                                 deliver_mla_kernel<__nv_bfloat16, __nv_bfloat16>, grid, params,
                                 state.stream());
  }
  return launch_for(args.kv.layout.dtype, deliver_mla_kernel<float, float>, deliver_mla_kernel<__half, float>,
                    deliver_mla_kernel<__nv_bfloat16, float>, grid, params, state.stream());
}

}  // namespace gantry::cuda

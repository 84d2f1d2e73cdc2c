#include "kernels/cuda/sm90/decode_gemm_launch.h"
#include "kernels/cuda/sm90/launch.h"
#include "kernels/cuda/sm90/ptx.cuh"
#include "kernels/cuda/sm90/tensor_map.h"
#include "kernels/cuda/sm90/wgmma.cuh"

namespace gantry::sm90 {
namespace {

constexpr int kRowBytes = 128;  // of a stage: 128 e4m3 or 64 bf16 of K

struct Params {
  CUtensorMap weight;
  CUtensorMap x;
  const float* weight_scale;
  const float* x_scale;
  __nv_bfloat16* out;
  float* out_f32;
  int x_scale_stride, m, n, kblocks, split, stages;
  int x_step, out_step, out_stride;  // of the batch, blockIdx.z
  int batch;                         // blockIdx.z: product + batch * chunk of kTokens rows of x
  int n_out;                         // rows of W that are stored, at most n
  const float* bias;                 // [n_out] or null
  bool accumulate;                   // into out_f32
  bool quads;                        // rows of out are whole float4, or 4 bf16
};

__device__ __forceinline__ void store(const Params& p, int token, int row, float value) {
  if (token >= p.m || row >= p.n_out) return;
  const int64_t at = int64_t{token} * p.out_stride + int64_t{blockIdx.z % p.batch} * p.out_step + row;
  if (p.bias != nullptr) value += __ldg(p.bias + row);
  if (p.out_f32 != nullptr) {
    p.out_f32[at] = p.accumulate ? p.out_f32[at] + value : value;
  } else {
    p.out[at] = __float2bfloat16_rn(value);
  }
}

__device__ __forceinline__ void store4(const Params& p, int token, int row, float4 v) {
  if (!p.quads || p.bias != nullptr || p.accumulate) {
    store(p, token, row, v.x);
    store(p, token, row + 1, v.y);
    store(p, token, row + 2, v.z);
    store(p, token, row + 3, v.w);
    return;
  }
  if (token >= p.m || row >= p.n_out) return;  // a multiple of 4: the four are in or out together
  const int64_t at = int64_t{token} * p.out_stride + int64_t{blockIdx.z % p.batch} * p.out_step + row;
  if (p.out_f32 != nullptr) {
    *reinterpret_cast<float4*>(p.out_f32 + at) = v;
  } else {
    __nv_bfloat162 halves[2] = {__floats2bfloat162_rn(v.x, v.y), __floats2bfloat162_rn(v.z, v.w)};
    *reinterpret_cast<uint2*>(p.out + at) = *reinterpret_cast<uint2*>(halves);
  }
}

// Grid [tiles of 64 * kGroups rows, split, batch * chunks of tokens], clusters of [1, split]. Warpgroups 0 .. kGroups - 1
// multiply; the last warp feeds the ring.
template <int kTokens, int kGroups, bool kFp8>
__global__ __launch_bounds__(kGroups * 128 + 32) void decode_gemm_kernel(const __grid_constant__ Params p) {
  constexpr int kRows = 64 * kGroups;
  constexpr int kABytes = kRows * kRowBytes, kBBytes = kTokens * kRowBytes;
  constexpr int kPartialStride = kRows + 4;
  constexpr int kElements = kFp8 ? 128 : 64;  // of K in a stage
  extern __shared__ uint8_t unaligned[];
  uint8_t* smem =
      reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(unaligned) + 1023) & ~uintptr_t{1023});
  uint8_t* a_ring = smem;                         // [stages, kRows, 128], swizzled
  uint8_t* b_ring = a_ring + p.stages * kABytes;  // [stages, kTokens, 128], swizzled
  auto* scale_ring = reinterpret_cast<float*>(b_ring + p.stages * kBBytes);  // [stages, kTokens]
  const int ring_bytes = p.stages * (kABytes + kBBytes + kTokens * 4);
  const int partial_bytes = p.split > 1 ? kTokens * kPartialStride * 4 : 0;
  auto* weight_scales =
      reinterpret_cast<float*>(smem + max(ring_bytes, partial_bytes));  // [k-blocks of this part]
  auto* full = reinterpret_cast<uint64_t*>(weight_scales + 144);
  uint64_t* empty = full + p.stages;

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int first_row = blockIdx.x * kRows;
  const int part = blockIdx.y;
  const int product = static_cast<int>(blockIdx.z) % p.batch;
  const int first_token = static_cast<int>(blockIdx.z) / p.batch * kTokens;
  const int first_block = p.kblocks * part / p.split;
  const int blocks = p.kblocks * (part + 1) / p.split - first_block;

  if (threadIdx.x == 0) {
    for (int s = 0; s < p.stages; ++s) {
      mbarrier_init(full + s, 1);
      mbarrier_init(empty + s, kGroups * 128);
    }
    fence_barrier_init();
  }
  __syncthreads();
  let_next_kernel_start();

  if (warp == kGroups * 4) {
    if (lane == 0) {
      constexpr uint32_t kStageBytes = kABytes + kBBytes + (kFp8 ? kTokens * 4 : 0);
      prefetch_map(&p.weight);
      prefetch_map(&p.x);
      auto load_weights = [&](int i, int stage) {
        mbarrier_expect(full + stage, kStageBytes);
        tma_load(a_ring + stage * kABytes, &p.weight, (first_block + i) * kElements,
                 product * p.n + first_row, full + stage, kEvictFirst);
      };
      auto load_x = [&](int i, int stage) {
        tma_load(b_ring + stage * kBBytes, &p.x, product * p.x_step + (first_block + i) * kElements,
                 first_token, full + stage, kEvictLast);
        if constexpr (kFp8) {
          bulk_load(scale_ring + stage * kTokens,
                    p.x_scale + int64_t{first_block + i} * p.x_scale_stride + first_token, kTokens * 4,
                    full + stage);
        }
      };
      // The weights do not depend on the kernel before: the ring fills while that one drains.
      const int ahead = min(blocks, p.stages);
      for (int i = 0; i < ahead; ++i) load_weights(i, i);
      wait_for_previous_kernel();
      for (int i = 0; i < ahead; ++i) load_x(i, i);
      int stage = 0, parity = 0;
      for (int i = ahead; i < blocks; ++i) {
        mbarrier_wait(empty + stage, parity);
        load_weights(i, stage);
        load_x(i, stage);
        if (++stage == p.stages) {
          stage = 0;
          parity ^= 1;
        }
      }
    }
    __syncwarp();
  } else {
    if constexpr (kFp8) {
      const int scale_row = first_row / 128;
      for (int i = threadIdx.x; i < blocks; i += kGroups * 128) {
        weight_scales[i] = __ldg(p.weight_scale + int64_t{scale_row} * p.kblocks + first_block + i);
      }
      named_barrier(1, kGroups * 128);
    }

    const int group = warp / 4;
    float sum[kTokens / 2];
#pragma unroll
    for (float& s : sum) s = 0.0f;
    int stage = 0, parity = 0;
    for (int i = 0; i < blocks; ++i) {
      mbarrier_wait(full + stage, parity);
      const uint64_t a =
          swizzle128_descriptor(smem_address(a_ring + stage * kABytes + group * 64 * kRowBytes));
      const uint64_t b = swizzle128_descriptor(smem_address(b_ring + stage * kBBytes));
      if constexpr (kFp8) {
        float product[kTokens / 2];
        wgmma_hold(product);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < 4; ++k) wgmma_fp8(product, a + k * 2, b + k * 2, k > 0);
        wgmma_commit();
        wgmma_wait<0>();
        wgmma_hold(product);
        const float weight_scale = weight_scales[i];
        const float* scales = scale_ring + stage * kTokens + 2 * (lane % 4);
#pragma unroll
        for (int t = 0; t < kTokens / 8; ++t) {
          const float2 x_scale = *reinterpret_cast<const float2*>(scales + 8 * t);
          const float s0 = x_scale.x * weight_scale, s1 = x_scale.y * weight_scale;
          sum[4 * t + 0] += product[4 * t + 0] * s0;
          sum[4 * t + 1] += product[4 * t + 1] * s1;
          sum[4 * t + 2] += product[4 * t + 2] * s0;
          sum[4 * t + 3] += product[4 * t + 3] * s1;
        }
      } else {
        wgmma_hold(sum);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < 4; ++k) wgmma_bf16<0>(sum, a + k * 2, b + k * 2, 1);
        wgmma_commit();
        wgmma_wait<0>();
        wgmma_hold(sum);
      }
      mbarrier_arrive(empty + stage);  // every lane: it has read its scales
      if (++stage == p.stages) {
        stage = 0;
        parity ^= 1;
      }
    }

    // Of this thread's values: row of sum[4 t + 2 j + c] is row + 8 j, token 8 t + token + c.
    const int row = warp * 16 + lane / 4, token = 2 * (lane % 4);
    if (p.split == 1) {
#pragma unroll
      for (int v = 0; v < kTokens / 2; ++v) {
        store(p, first_token + v / 4 * 8 + token + v % 2, first_row + row + v / 2 % 2 * 8, sum[v]);
      }
    } else {
      named_barrier(1, kGroups * 128);  // the ring is read out: the partial sums take its place
      auto* partial = reinterpret_cast<float*>(smem);  // [kTokens, kPartialStride]
#pragma unroll
      for (int v = 0; v < kTokens / 2; ++v) {
        partial[(v / 4 * 8 + token + v % 2) * kPartialStride + row + v / 2 % 2 * 8] = sum[v];
      }
    }
  }
  if (p.split > 1) {
    cluster_sync();
    // Each block adds up its slice of the rows, parts in order of K.
    const int slice = kRows / p.split;
    const int first = static_cast<int>(cluster_rank()) * slice;
    const auto* partial = reinterpret_cast<const float*>(smem);
    const int quads = slice / 4;
    for (int i = threadIdx.x; i < min(p.m - first_token, kTokens) * quads; i += blockDim.x) {
      const int t = i / quads, r = first + i % quads * 4;
      float4 total = load_cluster_float4(partial + t * kPartialStride + r, 0);
      for (int other = 1; other < p.split; ++other) {
        const float4 v = load_cluster_float4(partial + t * kPartialStride + r, other);
        total.x += v.x;
        total.y += v.y;
        total.z += v.z;
        total.w += v.w;
      }
      store4(p, first_token + t, first_row + r, total);
    }
    cluster_sync();
  }
}

template <int kTokens>
Status launch_tokens(const DecodeGemmArgs& args, const Params& params, const LaunchShape& shape,
                     cudaStream_t stream) {
  const bool fp8 = args.shape.type == GemmType::kE4m3;
  if (args.config.rows == 64) {
    return fp8 ? launch(decode_gemm_kernel<kTokens, 1, true>, shape, params, stream)
               : launch(decode_gemm_kernel<kTokens, 1, false>, shape, params, stream);
  }
  return fp8 ? launch(decode_gemm_kernel<kTokens, 2, true>, shape, params, stream)
             : launch(decode_gemm_kernel<kTokens, 2, false>, shape, params, stream);
}

}  // namespace

Result<DecodeGemmArgs> plan_decode_gemm(const DecodeGemmShape& shape, const DecodeGemmConfig& config,
                                        const void* weight, const void* x, int x_rows_max,
                                        const DecodeGemmBatch& batch) {
  if (config.tokens < 8 || (config.rows != 64 && config.rows != 128) || shape.n % 8 != 0 ||
      k_blocks(shape) == 0) {
    return internal_error("no decode GEMM for " + std::to_string(shape.m) + " x " + std::to_string(shape.n) +
                          " x " + std::to_string(shape.k) + " with " + to_string(config));
  }
  DecodeGemmArgs args{};
  args.shape = shape;
  args.config = config;
  args.batch = batch;
  const bool fp8 = shape.type == GemmType::kE4m3;
  const int element = fp8 ? 1 : 2;
  TensorMapSpec spec{.type = fp8 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                     .element_bytes = element,
                     .base = weight,
                     .cols = static_cast<uint64_t>(shape.k),
                     .rows = static_cast<uint64_t>(shape.n) * static_cast<uint64_t>(batch.count),
                     .row_stride = static_cast<uint64_t>(shape.k) * static_cast<uint64_t>(element),
                     .box_cols = static_cast<uint32_t>(kRowBytes / element),
                     .box_rows = static_cast<uint32_t>(config.rows)};
  GANTRY_ASSIGN_OR_RETURN(args.weight, make_tensor_map(spec));
  spec.base = x;
  spec.cols = static_cast<uint64_t>(batch.x_cols > 0 ? batch.x_cols : shape.k);
  spec.row_stride = spec.cols * static_cast<uint64_t>(element);
  spec.rows = static_cast<uint64_t>(x_rows_max);
  spec.box_rows = static_cast<uint32_t>(config.tokens);
  GANTRY_ASSIGN_OR_RETURN(args.x, make_tensor_map(spec));
  return args;
}

Status launch_decode_gemm(const DecodeGemmArgs& args, cudaStream_t stream) {
  const int out_stride = args.batch.out_stride > 0 ? args.batch.out_stride : args.shape.n;
  const int n_out = args.n_out > 0 ? args.n_out : args.shape.n;
  const bool quads = n_out % 4 == 0 && out_stride % 4 == 0 && args.batch.out_step % 4 == 0 &&
                     reinterpret_cast<uintptr_t>(args.out) % 8 == 0 &&
                     reinterpret_cast<uintptr_t>(args.out_f32) % 16 == 0;
  const int chunks = (args.shape.m + args.config.tokens - 1) / args.config.tokens;
  const Params params{.weight = args.weight,
                      .x = args.x,
                      .weight_scale = args.weight_scale,
                      .x_scale = args.x_scale,
                      .out = args.out,
                      .out_f32 = args.out_f32,
                      .x_scale_stride = args.x_scale_stride,
                      .m = args.shape.m,
                      .n = args.shape.n,
                      .kblocks = k_blocks(args.shape),
                      .split = args.config.split,
                      .stages = args.config.stages,
                      .x_step = args.batch.x_step,
                      .out_step = args.batch.out_step,
                      .out_stride = out_stride,
                      .batch = args.batch.count,
                      .n_out = n_out,
                      .bias = args.bias,
                      .accumulate = args.accumulate,
                      .quads = quads};
  const LaunchShape shape{
      .grid =
          dim3(static_cast<unsigned>((args.shape.n + args.config.rows - 1) / args.config.rows),
               static_cast<unsigned>(args.config.split), static_cast<unsigned>(args.batch.count * chunks)),
      .threads = args.config.rows * 2 + 32,
      .smem_bytes = args.config.smem_bytes,
      .cluster_y = args.config.split};
  switch (args.config.tokens) {
    case 8:
      return launch_tokens<8>(args, params, shape, stream);
    case 16:
      return launch_tokens<16>(args, params, shape, stream);
    case 32:
      return launch_tokens<32>(args, params, shape, stream);
    case 64:
      return launch_tokens<64>(args, params, shape, stream);
    case 128:
      return launch_tokens<128>(args, params, shape, stream);
    default:
      return internal_error("no decode GEMM kernel for " + to_string(args.config));
  }
}

}  // namespace gantry::sm90

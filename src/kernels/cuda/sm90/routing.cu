#include "kernels/cuda/sm90/launch.h"
#include "kernels/cuda/sm90/ptx.cuh"
#include "kernels/cuda/sm90/routing.h"

namespace gantry::sm90 {
namespace {

constexpr int kExpertsMax = 256;                    // routed
constexpr int kDispatchThreads = kExpertsMax + 32;  // one per expert, the shared ones too
constexpr int kTokensMax = 128;
constexpr int kPicksMax = 16;
constexpr int kGroupsMax = 32;

__device__ __forceinline__ float2 unpack(uint32_t pair) {
  return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)};
}

// The order of floats as that of unsigned integers, above 0; -0 counts as 0.
__device__ __forceinline__ uint32_t ordered(float x) {
  const uint32_t bits = __float_as_uint(x + 0.0f);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

struct SelectParams {
  const float* logits;
  const float* bias;
  int32_t* ids;
  float* weights;
  int tokens, experts, picks, shared, groups, topk_group;
  float scaling;
};

// One warp per token; lane l holds experts l, l + 32, ... Of equal scores the lower index wins: the warp
// takes the maximum of the scores, then the minimum of the indices that have it.
__global__ __launch_bounds__(128) void gate_select_kernel(const __grid_constant__ SelectParams p) {
  __shared__ float shared[4][kExpertsMax];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int token = blockIdx.x * 4 + warp;
  constexpr int kEach = kExpertsMax / 32;
  const int group_size = p.experts / p.groups;
  float bias[kEach];
  int group_of[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int e = lane + 32 * i;
    bias[i] = e < p.experts && p.bias != nullptr ? __ldg(p.bias + e) : 0.0f;
    group_of[i] = e < p.experts ? e / group_size : 0;
  }
  let_next_kernel_start();
  wait_for_previous_kernel();
  if (token >= p.tokens) return;
  float* biased = shared[warp];
  float score[kEach];
  uint32_t key[kEach];  // of the biased score; 0: not to be picked
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int e = lane + 32 * i;
    score[i] = e < p.experts ? 1.0f / (1.0f + expf(-p.logits[int64_t{token} * p.experts + e])) : 0.0f;
    key[i] = e < p.experts ? ordered(score[i] + bias[i]) : 0;
    biased[e] = score[i] + bias[i];
  }
  __syncwarp();

  uint32_t group_key = 0;
  if (lane < p.groups) {
    float best = -INFINITY, second = -INFINITY;
    // Lanes start apart: groups of 32 would all meet in one bank.
    int at = lane % group_size;
    for (int i = 0; i < group_size; ++i) {
      const float s = biased[lane * group_size + at];
      if (++at == group_size) at = 0;
      second = fmaxf(second, fminf(best, s));
      best = fmaxf(best, s);
    }
    group_key = ordered(group_size == 1 ? best : best + second);
  }
  uint32_t kept = 0;
  for (int k = 0; k < p.topk_group; ++k) {
    const uint32_t most = __reduce_max_sync(~0u, group_key);
    const int winner = __ffs(__ballot_sync(~0u, group_key == most)) - 1;
    if (lane == winner) group_key = 0;
    kept |= 1u << winner;
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if (!(kept >> group_of[i] & 1)) key[i] = 0;
  }

  uint32_t chosen = 0;  // bit i: this lane's expert lane + 32 i
  for (int k = 0; k < p.picks; ++k) {
    uint32_t most = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) most = max(most, key[i]);
    const uint32_t best = __reduce_max_sync(~0u, most);
    uint32_t index = kExpertsMax;
#pragma unroll
    for (int i = kEach - 1; i >= 0; --i) {
      if (key[i] == best) index = static_cast<uint32_t>(lane + 32 * i);
    }
    index = __reduce_min_sync(~0u, index);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (index == static_cast<uint32_t>(lane + 32 * i)) {
        key[i] = 0;
        chosen |= 1u << i;
      }
    }
  }

  // Ascending by expert: 32 i + lane is the order of (i, lane).
  float sum = 0.0f;
  int place[kEach];
  int before = 0;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const uint32_t lanes = __ballot_sync(~0u, chosen >> i & 1);
    place[i] = before + __popc(lanes & ((1u << lane) - 1));
    before += __popc(lanes);
    for (uint32_t rest = lanes; rest != 0; rest &= rest - 1)
      sum += __shfl_sync(~0u, score[i], __ffs(rest) - 1);
  }
  const float factor = p.scaling / (sum + 1e-20f);
  const int stride = p.picks + p.shared;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if (!(chosen >> i & 1)) continue;
    p.ids[token * stride + place[i]] = lane + 32 * i;
    p.weights[token * stride + place[i]] = score[i] * factor;
  }
  if (lane < p.shared) {
    p.ids[token * stride + p.picks + lane] = p.experts + lane;
    p.weights[token * stride + p.picks + lane] = 1.0f;
  }
}

struct DispatchParams {
  Routing routing;
  int tokens, experts, picks, slots_max;
  int gate_up_tokens, gate_up_all, down_tokens;
};

// Exclusive prefix sums of three counts over the block.
__device__ __forceinline__ int3 exclusive_sums(int3 v, int3 (&shared)[kDispatchThreads / 32], int3* total) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int3 sum = v;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const int x = __shfl_up_sync(~0u, sum.x, step), y = __shfl_up_sync(~0u, sum.y, step),
              z = __shfl_up_sync(~0u, sum.z, step);
    if (lane >= step) {
      sum.x += x;
      sum.y += y;
      sum.z += z;
    }
  }
  if (lane == 31) shared[warp] = sum;
  __syncthreads();
  int3 base = {0, 0, 0};
  *total = {0, 0, 0};
  for (int w = 0; w < kDispatchThreads / 32; ++w) {
    if (w == warp) base = *total;
    total->x += shared[w].x;
    total->y += shared[w].y;
    total->z += shared[w].z;
  }
  return {base.x + sum.x - v.x, base.y + sum.y - v.y, base.z + sum.z - v.z};
}

// One block, thread e for expert e. A bit mask of the tokens of each expert makes the order of
// slots that of the tokens, however the threads run.
__global__ __launch_bounds__(kDispatchThreads) void dispatch_kernel(
    const __grid_constant__ DispatchParams p) {
  __shared__ uint32_t masks[kDispatchThreads][kTokensMax / 32];
  __shared__ int bases[kDispatchThreads];
  __shared__ int3 shared[kDispatchThreads / 32];
  const int e = threadIdx.x;
  for (int w = 0; w < kTokensMax / 32; ++w) masks[e][w] = 0;
  let_next_kernel_start();
  wait_for_previous_kernel();
  for (int s = e; s < p.slots_max; s += kDispatchThreads) p.routing.token_of[s] = -1;
  for (int i = e; i < 2 * kStreamBlocksMax; i += kDispatchThreads) p.routing.flags[i] = 0;
  __syncthreads();
  const int picks = p.tokens * p.picks;
  for (int i = e; i < picks; i += kDispatchThreads) {
    const int token = i / p.picks;
    atomicOr(&masks[p.routing.ids[i]][token / 32], 1u << (token % 32));
  }
  __syncthreads();
  int count = 0;
  for (int w = 0; w < kTokensMax / 32; ++w) count += __popc(masks[e][w]);
  const int gate_up_chunks = p.gate_up_all ? (count > 0) : (count + p.gate_up_tokens - 1) / p.gate_up_tokens;
  const int down_chunks = (count + p.down_tokens - 1) / p.down_tokens;
  int3 total;
  const int3 before = exclusive_sums(
      {(count + kSlotAlign - 1) / kSlotAlign * kSlotAlign, gate_up_chunks, down_chunks}, shared, &total);
  bases[e] = before.x;
  for (int c = 0; c < gate_up_chunks; ++c) {
    const int first = c * p.gate_up_tokens;
    p.routing.chunks[0][before.y + c] = {e, before.x + first, min(p.gate_up_tokens, count - first)};
  }
  for (int c = 0; c < down_chunks; ++c) {
    const int first = c * p.down_tokens;
    p.routing.chunks[1][before.z + c] = {e, before.x + first, min(p.down_tokens, count - first)};
  }
  if (p.gate_up_all && count > 0) {
    int slot = before.x;
    for (int t = 0; t < p.tokens; ++t) {
      const bool routed = masks[e][t / 32] >> (t % 32) & 1;
      p.routing.expert_slot[before.y * p.tokens + t] = routed ? slot++ : -1;
    }
  }
  if (e == 0) {
    p.routing.chunk_counts[0] = total.y;
    p.routing.chunk_counts[1] = total.z;
  }
  __syncthreads();
  for (int i = e; i < picks; i += kDispatchThreads) {
    const int token = i / p.picks, expert = p.routing.ids[i];
    int slot = bases[expert] + __popc(masks[expert][token / 32] & ((1u << (token % 32)) - 1));
    for (int w = 0; w < token / 32; ++w) slot += __popc(masks[expert][w]);
    p.routing.slot_of[i] = slot;
    p.routing.token_of[slot] = token;
  }
}

__global__ __launch_bounds__(128) void permute_kernel(const __grid_constant__ PermuteArgs p) {
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int slot = blockIdx.x, token = p.routing.token_of[slot];
  if (token < 0) return;
  const int hidden = p.shape.hidden;
  const auto* from = reinterpret_cast<const uint4*>(p.x + int64_t{token} * hidden);
  auto* to = reinterpret_cast<uint4*>(p.slots + int64_t{slot} * hidden);
  for (int i = threadIdx.x; i < hidden / 16; i += 128) to[i] = from[i];
  for (int k = threadIdx.x; k < hidden / 128; k += 128) {
    p.slot_scale[int64_t{k} * p.slot_scale_stride + slot] = p.x_scale[int64_t{k} * p.x_scale_stride + token];
  }
}

__global__ __launch_bounds__(128) void combine_kernel(const __grid_constant__ CombineArgs p) {
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int hidden = p.shape.hidden, picks = p.shape.experts_per_token;
  const int token = blockIdx.y, column = (blockIdx.x * 128 + threadIdx.x) * 8;
  if (column >= hidden) return;
  float sum[8];
  float* residual = p.residual + int64_t{token} * hidden + column;
#pragma unroll
  for (int i = 0; i < 8; ++i) sum[i] = residual[i];
  auto add = [&](const __nv_bfloat16* row, float weight) {
    const uint4 v = *reinterpret_cast<const uint4*>(row);
    const uint32_t pairs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float2 pair = unpack(pairs[j]);
      sum[2 * j] += weight * pair.x;
      sum[2 * j + 1] += weight * pair.y;
    }
  };
  for (int k = 0; k < picks; ++k) {
    const int pick = token * picks + k;
    add(p.y + int64_t{p.routing.slot_of[pick]} * hidden + column, p.routing.weights[pick]);
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) residual[i] = sum[i];
}

}  // namespace

Status plan_gate(GateArgs& args, int sm_count) {
  const ExpertShape& s = args.shape;
  const int routed = s.experts - args.shared;
  if (args.shared < 0 || args.shared > 32 || routed < 1 || routed > kExpertsMax ||
      s.experts_per_token > kPicksMax || s.experts_per_token <= args.shared || args.groups > kGroupsMax ||
      routed % args.groups != 0 || args.topk_group < 1 || args.topk_group > args.groups ||
      s.experts_per_token - args.shared > args.topk_group * (routed / args.groups)) {
    return internal_error("no gate kernel for " + std::to_string(routed) + " experts in " +
                          std::to_string(args.groups) + " groups");
  }
  const DecodeGemmShape shape{.m = s.tokens, .n = routed, .k = s.hidden, .type = GemmType::kBf16};
  const DecodeGemmConfig config = choose_decode_gemm(shape, sm_count);
  GANTRY_ASSIGN_OR_RETURN(args.gemm, plan_decode_gemm(shape, config, args.weight, args.x, args.x_rows_max));
  args.gemm.out_f32 = args.logits;
  return Status();
}

Status launch_gate_logits(const GateArgs& args, cudaStream_t stream) {
  return launch_decode_gemm(args.gemm, stream);
}

Status launch_gate_select(const GateArgs& args, cudaStream_t stream) {
  const ExpertShape& s = args.shape;
  const SelectParams select{.logits = args.logits,
                            .bias = args.bias,
                            .ids = args.routing.ids,
                            .weights = args.routing.weights,
                            .tokens = s.tokens,
                            .experts = s.experts - args.shared,
                            .picks = s.experts_per_token - args.shared,
                            .shared = args.shared,
                            .groups = args.groups,
                            .topk_group = args.topk_group,
                            .scaling = args.scaling};
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>((s.tokens + 3) / 4), 1, 1), .threads = 128};
  return launch(gate_select_kernel, shape, select, stream);
}

Status launch_dispatch(const ExpertShape& shape, const ExpertConfig& config, const Routing& routing,
                       cudaStream_t stream) {
  const DispatchParams params{.routing = routing,
                              .tokens = shape.tokens,
                              .experts = shape.experts,
                              .picks = shape.experts_per_token,
                              .slots_max = slots_max(shape),
                              .gate_up_tokens = config.gate_up_tokens,
                              .gate_up_all = config.gate_up_all,
                              .down_tokens = config.down_tokens};
  return launch(dispatch_kernel, {.threads = kDispatchThreads}, params, stream);
}

Status launch_permute(const PermuteArgs& args, cudaStream_t stream) {
  return launch(permute_kernel,
                {.grid = dim3(static_cast<unsigned>(slots_max(args.shape)), 1, 1), .threads = 128}, args,
                stream);
}

Status launch_combine(const CombineArgs& args, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>((args.shape.hidden + 1023) / 1024);
  return launch(combine_kernel,
                {.grid = dim3(blocks, static_cast<unsigned>(args.shape.tokens), 1), .threads = 128}, args,
                stream);
}

}  // namespace gantry::sm90

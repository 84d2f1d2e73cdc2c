// From the gate's picks to the experts' work lists, and back to the residual: everything on the device.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "base/status.h"
#include "kernels/cuda/sm90/decode_gemm_launch.h"
#include "kernels/cuda/sm90/expert_gemm.h"

namespace gantry::sm90 {

// A run of an expert's slots that one tile multiplies at once.
struct ExpertChunk {
  int32_t expert;
  int32_t first_slot;
  int32_t count;
};

// Device buffers of one step's routing.
struct Routing {
  int32_t* ids = nullptr;       // [B, experts_per_token] picks, ascending by expert
  float* weights = nullptr;     // [B, experts_per_token]
  int32_t* slot_of = nullptr;   // [B, experts_per_token] slot of each pick
  int32_t* token_of = nullptr;  // [slots_max] token of a slot; -1 where no pick fell
  int32_t* expert_slot =
      nullptr;  // [experts hit, B]: slot of (chunk's expert, token) or -1, for gate_up over all
  ExpertChunk* chunks[2] = {nullptr, nullptr};  // gate_up's and down's lists
  int32_t* chunk_counts = nullptr;              // [2]
  int32_t* flags = nullptr;  // [2, kStreamBlocksMax], of the GEMMs' exchange of partial sums; cleared here
};

// DeepSeek-V3's gate for each row: logits = x W^T in f32, then GateParams' selection (args.h).
struct GateArgs {
  const __nv_bfloat16* x = nullptr;  // [x_rows_max, hidden] normed
  int x_rows_max = 0;
  const __nv_bfloat16* weight = nullptr;  // [routed experts, hidden]
  const float* bias = nullptr;            // [experts] or null
  float* logits = nullptr;                // [B, routed experts]
  // shape.experts and shape.experts_per_token count the shared experts too, which come last: every token
  // takes them with weight 1.
  ExpertShape shape{};
  int shared = 0;
  int groups = 1, topk_group = 1;
  float scaling = 1;
  Routing routing{};
  DecodeGemmArgs gemm{};  // set by plan_gate
};
Status plan_gate(GateArgs& args, int sm_count);
Status launch_gate_logits(const GateArgs& args, cudaStream_t stream);
Status launch_gate_select(const GateArgs& args, cudaStream_t stream);

// Sorts picks into slots and makes both work lists. One block.
Status launch_dispatch(const ExpertShape& shape, const ExpertConfig& config, const Routing& routing,
                       cudaStream_t stream);

// Copies each slot's token row (e4m3 and scales) for gate_up over routed chunks.
struct PermuteArgs {
  const uint8_t* x = nullptr;  // [B, hidden]
  const float* x_scale = nullptr;
  int x_scale_stride = 0;
  uint8_t* slots = nullptr;  // [slots_max, hidden]
  float* slot_scale = nullptr;
  int slot_scale_stride = 0;
  ExpertShape shape{};
  Routing routing{};
};
Status launch_permute(const PermuteArgs& args, cudaStream_t stream);

// residual[t] += sum over picks, ascending by expert, the shared ones last: weight * y[slot].
struct CombineArgs {
  const __nv_bfloat16* y = nullptr;  // [slots_max, hidden]
  float* residual = nullptr;         // [B, hidden]
  ExpertShape shape{};
  Routing routing{};
};
Status launch_combine(const CombineArgs& args, cudaStream_t stream);

}  // namespace gantry::sm90

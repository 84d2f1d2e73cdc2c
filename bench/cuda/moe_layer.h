// One MoE layer of DeepSeek-V3's decode step on the device: random weights, every kernel, in order.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "bench/cuda/device.h"
#include "kernels/cuda/sm90/expert_gemm_launch.h"
#include "kernels/cuda/sm90/mla_decode_launch.h"
#include "kernels/cuda/sm90/mla_prologue.h"
#include "kernels/cuda/sm90/quantize.h"
#include "kernels/cuda/sm90/routing.h"

namespace gantry::bench {

struct LayerShape {
  int batch = 1;
  int context = 4096;  // of every sequence, the new token included
  int hidden = 7168;
  int heads = 128;
  int q_lora = 1536;
  int experts = 256;  // routed; one shared expert beside them
  int experts_per_token = 8;
  int groups = 8, topk_group = 4;
  int intermediate = 2048;  // of one expert

  static constexpr int kNope = 128, kRope = 64, kValue = 128;
  sm90::ExpertShape expert_shape() const {
    return {batch, experts + 1, experts_per_token + 1, hidden, intermediate};
  }
};

// What all layers of a step share: activations, rope tables, block tables.
struct Activations {
  explicit Activations(const LayerShape& shape);

  LayerShape shape;
  DeviceBuffer<float> residual, cos, sin;
  DeviceBuffer<uint8_t> x, q_a, o, slots, h;
  DeviceBuffer<float> x_scale, q_a_scale, o_scale, slot_scale, h_scale, logits, partial, partial_lse,
      pick_weights, stream_partial;
  DeviceBuffer<uint16_t> a, q_b, q, attended, values, o_out, normed, y;
  DeviceBuffer<int32_t> block_table, lengths, ids, slot_of, token_of, expert_slot, counts, flags;
  DeviceBuffer<sm90::ExpertChunk> chunks[2];
  std::vector<int32_t> table;  // block_table on the host
  int table_stride;
  sm90::Routing routing;
};

class MoeLayer {
 public:
  MoeLayer(Activations& activations, uint64_t seed);
  MoeLayer(const MoeLayer&) = delete;
  MoeLayer& operator=(const MoeLayer&) = delete;
  // The kernels in order; the layer is all of them.
  struct Step {
    const char* name;
    std::function<void(cudaStream_t)> launch;
  };
  const std::vector<Step>& steps() const { return steps_; }

  // Weights as filled, for the oracle.
  DeviceBuffer<uint8_t> q_a_kv_a, q_b, o_proj, gate_up, down;
  DeviceBuffer<float> q_a_kv_a_scale, q_b_scale, o_proj_scale, gate_up_scale, down_scale;
  DeviceBuffer<uint16_t> w_uk, w_uv, gate;  // [heads, 512, 128], [heads, 128, 512], [experts, hidden]
  DeviceBuffer<float> input_gain, q_a_gain, kv_gain, post_gain, gate_bias;
  DeviceBuffer<uint16_t> cache;

 private:
  sm90::DecodeGemmArgs gemm_a_, gemm_q_b_, gemm_uk_, gemm_uv_, gemm_o_;
  sm90::NormQuantizeArgs norm_in_, norm_q_a_, norm_post_;
  sm90::QuantizeArgs quantize_o_;
  sm90::MlaPrologueArgs prologue_;
  sm90::MlaDecodeArgs attention_;
  sm90::GateArgs gate_;
  sm90::ExpertGemmArgs experts_;
  sm90::PermuteArgs permute_;
  sm90::CombineArgs combine_;
  std::vector<Step> steps_;
};

}  // namespace gantry::bench

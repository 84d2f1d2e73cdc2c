#include "model/layers/moe.h"

namespace gantry {

Result<Moe> load_moe(Loader& loader, const ModelConfig& config, const std::string& prefix) {
  const std::string base = prefix + "mlp.";
  const MoeConfig& moe = *config.moe;
  Moe layer{.gate = {.experts = moe.experts,
                     .experts_per_token = moe.experts_per_token,
                     .groups = moe.groups,
                     .topk_group = moe.topk_group,
                     .normalize = moe.norm_topk_prob,
                     .scaling = static_cast<float>(moe.routed_scaling_factor)},
            .hidden = config.hidden};
  GANTRY_ASSIGN_OR_RETURN(
      layer.norm, loader.norm(prefix + "post_attention_layernorm.weight", config.hidden, config.rms_eps));

  const LinearPart gate[] = {{base + "gate", moe.experts}};
  GANTRY_ASSIGN_OR_RETURN(layer.gate_weight, loader.linear(gate, config.hidden, Compute::kF32));
  GANTRY_ASSIGN_OR_RETURN(const std::span<const float> gate_bias,
                          loader.vector_f32(base + "gate.e_score_correction_bias", moe.experts));
  GANTRY_ASSIGN_OR_RETURN(layer.gate_bias, loader.place(gate_bias));

  const LinearPart gate_up[] = {{"gate_proj", moe.intermediate}, {"up_proj", moe.intermediate}};
  GANTRY_ASSIGN_OR_RETURN(layer.gate_up,
                          loader.experts(base + "experts.", moe.experts, gate_up, config.hidden));
  const LinearPart down[] = {{"down_proj", config.hidden}};
  GANTRY_ASSIGN_OR_RETURN(layer.down, loader.experts(base + "experts.", moe.experts, down, moe.intermediate));

  if (moe.shared_experts > 0) {
    const int64_t width = int64_t{moe.shared_experts} * moe.intermediate;
    const std::string shared = base + "shared_experts.";
    const LinearPart shared_gate_up[] = {{shared + "gate_proj", width}, {shared + "up_proj", width}};
    GANTRY_ASSIGN_OR_RETURN(layer.shared_gate_up, loader.linear(shared_gate_up, config.hidden));
    const LinearPart shared_down[] = {{shared + "down_proj", config.hidden}};
    GANTRY_ASSIGN_OR_RETURN(layer.shared_down, loader.linear(shared_down, width));
  }
  return layer;
}

ActivationWidths moe_widths(const ModelConfig& config) {
  return {.workspace = 2 * int64_t{config.moe->shared_experts} * config.moe->intermediate + config.hidden};
}

void moe(const Step& step, const Moe& layer) {
  const Activations& buffers = *step.buffers;
  ops::moe(step.context, {.x = buffers.x,
                          .rows = step.rows,
                          .hidden = layer.hidden,
                          .norm = layer.norm,
                          .gate_weight = &layer.gate_weight,
                          .gate_bias = layer.gate_bias,
                          .gate = layer.gate,
                          .gate_up = &layer.gate_up,
                          .down = &layer.down,
                          .shared_gate_up = layer.shared_gate_up ? &layer.shared_gate_up : nullptr,
                          .shared_down = layer.shared_down ? &layer.shared_down : nullptr,
                          .workspace = buffers.workspace,
                          .out = buffers.x});
}

}  // namespace gantry

#include "model/layers/moe.h"

#include <algorithm>
#include <optional>

#include "model/layers/sublayer.h"

namespace gantry {

namespace {

bool wants_shared_entry(const Loader& loader, const Shard& shard, const std::string& base, const Moe& layer) {
  const MoeConfig& moe = *shard.widths.moe;
  const auto wants = loader.backend().takes_shared_entry;
  if (wants == nullptr || shard.shared_experts != moe.intermediate || shard.experts.count() != moe.experts) {
    return false;
  }
  const std::optional<DType> dtype = loader.dtype(base + "experts.0.gate_proj.weight");
  if (!dtype) return false;
  for (const char* part : {"gate_proj.weight", "up_proj.weight", "down_proj.weight"}) {
    if (loader.dtype(base + "shared_experts." + part) != dtype) return false;
  }
  return wants({.gate = layer.gate,
                .hidden = shard.widths.hidden,
                .width = moe.intermediate,
                .dtype = *dtype,
                .compute = loader.compute()});
}

}  // namespace

Result<Moe> load_moe(Loader& loader, const Shard& shard, const std::string& prefix) {
  const ModelConfig& config = shard.widths;
  const std::string base = prefix + "mlp.";
  const MoeConfig& moe = *config.moe;
  Moe layer{.gate = {.experts = moe.experts,
                     .experts_per_token = moe.experts_per_token,
                     .groups = moe.groups,
                     .topk_group = moe.topk_group,
                     .normalize = moe.norm_topk_prob,
                     .scaling = static_cast<float>(moe.routed_scaling_factor)},
            .first_expert = shard.experts.begin,
            .hidden = config.hidden};
  GANTRY_ASSIGN_OR_RETURN(
      layer.norm, loader.norm(prefix + "post_attention_layernorm.weight", config.hidden, config.rms_eps));

  const LinearPart gate[] = {{base + "gate", moe.experts}};
  GANTRY_ASSIGN_OR_RETURN(layer.gate_weight, loader.linear(gate, config.hidden, Compute::kF32));
  GANTRY_ASSIGN_OR_RETURN(const std::span<const float> gate_bias,
                          loader.vector_f32(base + "gate.e_score_correction_bias", moe.experts));
  GANTRY_ASSIGN_OR_RETURN(layer.gate_bias, loader.place(gate_bias));

  layer.shared_entry = wants_shared_entry(loader, shard, base, layer);
  const std::string last = layer.shared_entry ? base + "shared_experts" : "";
  const LinearPart gate_up[] = {{"gate_proj", moe.intermediate}, {"up_proj", moe.intermediate}};
  GANTRY_ASSIGN_OR_RETURN(layer.gate_up,
                          loader.experts(base + "experts.", shard.experts, gate_up, config.hidden, last));
  const LinearPart down[] = {{"down_proj", config.hidden}};
  GANTRY_ASSIGN_OR_RETURN(layer.down,
                          loader.experts(base + "experts.", shard.experts, down, moe.intermediate, last));

  if (const int64_t width = shard.shared_experts; width > 0 && !layer.shared_entry) {
    const std::string shared = base + "shared_experts.";
    const LinearPart shared_gate_up[] = {{shared + "gate_proj", width}, {shared + "up_proj", width}};
    GANTRY_ASSIGN_OR_RETURN(layer.shared_gate_up, loader.linear(shared_gate_up, config.hidden));
    const LinearPart shared_down[] = {{shared + "down_proj", config.hidden}};
    GANTRY_ASSIGN_OR_RETURN(layer.shared_down, loader.linear(shared_down, width));
  }
  return layer;
}

ActivationWidths moe_widths(const Shard& shard) {
  return {.workspace = 2 * shard.shared_experts + shard.widths.hidden};
}

Status moe(const Step& step, const Moe& layer) {
  const Activations& buffers = *step.buffers;
  const SublayerOut sum = sublayer_out(step);
  if (!sum.accumulate) std::fill_n(sum.out, step.rows * step.hidden, 0.0f);  // the op adds
  ops::moe(step.context, {.x = buffers.x,
                          .rows = step.rows,
                          .hidden = layer.hidden,
                          .norm = layer.norm,
                          .gate_weight = &layer.gate_weight,
                          .gate_bias = layer.gate_bias,
                          .gate = layer.gate,
                          .first_expert = layer.first_expert,
                          .gate_up = &layer.gate_up,
                          .down = &layer.down,
                          .shared_entry = layer.shared_entry,
                          .shared_gate_up = layer.shared_gate_up ? &layer.shared_gate_up : nullptr,
                          .shared_down = layer.shared_down ? &layer.shared_down : nullptr,
                          .workspace = buffers.workspace,
                          .out = sum.out});
  return end_sublayer(step);
}

}  // namespace gantry

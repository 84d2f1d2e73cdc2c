#include "model/layers/mlp.h"

#include "model/layers/sublayer.h"

namespace gantry {

Result<Mlp> load_mlp(Loader& loader, const ModelConfig& config, const std::string& prefix) {
  const std::string base = prefix + "mlp.";
  Mlp layer;
  GANTRY_ASSIGN_OR_RETURN(
      layer.norm, loader.norm(prefix + "post_attention_layernorm.weight", config.hidden, config.rms_eps));
  const LinearPart gate_up[] = {{base + "gate_proj", config.intermediate, config.mlp_bias},
                                {base + "up_proj", config.intermediate, config.mlp_bias}};
  GANTRY_ASSIGN_OR_RETURN(layer.gate_up, loader.linear(gate_up, config.hidden));
  const LinearPart down[] = {{base + "down_proj", config.hidden, config.mlp_bias}};
  GANTRY_ASSIGN_OR_RETURN(layer.down, loader.linear(down, config.intermediate));
  return layer;
}

ActivationWidths mlp_widths(const ModelConfig& config) {
  return {.workspace = 2 * int64_t{config.intermediate}};
}

Status mlp(const Step& step, const Mlp& layer) {
  const Activations& buffers = *step.buffers;
  const SublayerOut sum = sublayer_out(step);
  ops::mlp(step.context, {.x = buffers.x,
                          .rows = step.rows,
                          .norm = layer.norm,
                          .gate_up = &layer.gate_up,
                          .down = &layer.down,
                          .workspace = buffers.workspace,
                          .out = sum.out,
                          .accumulate = sum.accumulate});
  return end_sublayer(step);
}

}  // namespace gantry

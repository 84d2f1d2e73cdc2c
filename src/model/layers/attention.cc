#include "model/layers/attention.h"

#include <cmath>

#include "model/layers/sublayer.h"

namespace gantry {

Result<Attention> load_attention(Loader& loader, const ModelConfig& config, const std::string& prefix) {
  const std::string base = prefix + "self_attn.";
  const int64_t q_rows = int64_t{config.heads} * config.head_dim;
  const int64_t kv_rows = int64_t{config.kv_heads} * config.head_dim;
  Attention layer{.heads = config.heads, .kv_heads = config.kv_heads, .head_dim = config.head_dim};
  GANTRY_ASSIGN_OR_RETURN(layer.norm,
                          loader.norm(prefix + "input_layernorm.weight", config.hidden, config.rms_eps));
  const LinearPart qkv[] = {{base + "q_proj", q_rows, config.qkv_bias},
                            {base + "k_proj", kv_rows, config.qkv_bias},
                            {base + "v_proj", kv_rows, config.qkv_bias}};
  GANTRY_ASSIGN_OR_RETURN(layer.qkv, loader.linear(qkv, config.hidden));
  const LinearPart output[] = {{base + "o_proj", config.hidden, config.output_bias}};
  GANTRY_ASSIGN_OR_RETURN(layer.output, loader.linear(output, q_rows));
  return layer;
}

ActivationWidths attention_widths(const ModelConfig& config) {
  const int64_t width = int64_t{config.heads} * config.head_dim;
  return {.q = width,
          .attended = width,
          .workspace = (int64_t{config.heads} + 2 * int64_t{config.kv_heads}) * config.head_dim};
}

KvLayout attention_kv_layout(const ModelConfig& config, DType dtype) {
  return {
      .dtype = dtype, .kv_heads = config.kv_heads, .key_dim = config.head_dim, .value_dim = config.head_dim};
}

Status attention(const Step& step, const Attention& layer, const KvView& kv) {
  const Activations& buffers = *step.buffers;
  ops::qkv_project(step.context, {.x = buffers.x,
                                  .rows = step.rows,
                                  .norm = layer.norm,
                                  .weight = &layer.qkv,
                                  .heads = layer.heads,
                                  .kv_heads = layer.kv_heads,
                                  .head_dim = layer.head_dim,
                                  .rope = step.rope,
                                  .segments = step.segments,
                                  .kv = kv,
                                  .q = buffers.q,
                                  .qkv = buffers.workspace});
  ops::attend(step.context, {.q = buffers.q,
                             .rows = step.rows,
                             .heads = layer.heads,
                             .scale = 1.0f / std::sqrt(static_cast<float>(layer.head_dim)),
                             .segments = step.segments,
                             .kv = kv,
                             .out = buffers.attended});
  const SublayerOut sum = sublayer_out(step);
  ops::norm_linear(step.context, {.x = buffers.attended,
                                  .rows = step.rows,
                                  .norm = {},
                                  .weight = &layer.output,
                                  .out = sum.out,
                                  .accumulate = sum.accumulate});
  return end_sublayer(step);
}

}  // namespace gantry

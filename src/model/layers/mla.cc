#include "model/layers/mla.h"

#include <vector>

#include "model/layers/absorbed.h"
#include "model/layers/sublayer.h"
#include "model/rope.h"

namespace gantry {
namespace {

// The published model's norms of the low-rank queries and latents do not follow rms_norm_eps.
constexpr float kLowRankNormEps = 1e-6f;

}  // namespace

Result<Mla> load_mla(Loader& loader, const ModelConfig& config, const std::string& prefix) {
  const std::string base = prefix + "self_attn.";
  const MlaConfig& dims = *config.mla;
  Mla layer{.heads = config.heads, .dims = dims, .scale = mla_softmax_scale(config.rope, config.head_dim)};
  GANTRY_ASSIGN_OR_RETURN(layer.norm,
                          loader.norm(prefix + "input_layernorm.weight", config.hidden, config.rms_eps));

  const int64_t q_rows = int64_t{config.heads} * config.head_dim;
  std::vector<LinearPart> q_a_kv_a;
  if (dims.q_lora_rank > 0) q_a_kv_a.push_back({base + "q_a_proj", dims.q_lora_rank, config.qkv_bias});
  q_a_kv_a.push_back(
      {base + "kv_a_proj_with_mqa", dims.kv_lora_rank + dims.qk_rope_head_dim, config.qkv_bias});
  GANTRY_ASSIGN_OR_RETURN(layer.q_a_kv_a, loader.linear(q_a_kv_a, config.hidden));
  if (dims.q_lora_rank > 0) {
    GANTRY_ASSIGN_OR_RETURN(layer.q_a_norm,
                            loader.norm(base + "q_a_layernorm.weight", dims.q_lora_rank, kLowRankNormEps));
    const LinearPart q_b[] = {{base + "q_b_proj", q_rows}};
    GANTRY_ASSIGN_OR_RETURN(layer.q_b, loader.linear(q_b, dims.q_lora_rank));
  } else {
    const LinearPart q[] = {{base + "q_proj", q_rows}};
    GANTRY_ASSIGN_OR_RETURN(layer.q_b, loader.linear(q, config.hidden));
  }
  GANTRY_ASSIGN_OR_RETURN(layer.kv_a_norm,
                          loader.norm(base + "kv_a_layernorm.weight", dims.kv_lora_rank, kLowRankNormEps));
  GANTRY_RETURN_IF_ERROR(load_absorbed(loader, base, layer));

  const LinearPart output[] = {{base + "o_proj", config.hidden, config.output_bias}};
  GANTRY_ASSIGN_OR_RETURN(layer.output, loader.linear(output, int64_t{config.heads} * dims.v_head_dim));
  return layer;
}

ActivationWidths mla_widths(const ModelConfig& config) {
  const int64_t heads = config.heads;
  const int64_t key = config.mla->kv_lora_rank + config.mla->qk_rope_head_dim;
  return {.q = heads * key,
          .attended = heads * config.mla->v_head_dim,
          .latent_attended = heads * config.mla->kv_lora_rank,
          .workspace = 2 * int64_t{config.mla->q_lora_rank} + key + heads * config.head_dim + config.hidden};
}

KvLayout mla_kv_layout(const ModelConfig& config, DType dtype) {
  return {.dtype = dtype,
          .kv_heads = 1,
          .key_dim = config.mla->kv_lora_rank + config.mla->qk_rope_head_dim,
          .value_dim = 0};
}

Status mla(const Step& step, const Mla& layer, const KvView& kv) {
  const Activations& buffers = *step.buffers;
  ops::mla_project(step.context, {.x = buffers.x,
                                  .rows = step.rows,
                                  .norm = layer.norm,
                                  .q_a_kv_a = &layer.q_a_kv_a,
                                  .q_a_norm = layer.q_a_norm,
                                  .q_b = &layer.q_b,
                                  .kv_a_norm = layer.kv_a_norm,
                                  .w_uk = &layer.w_uk,
                                  .heads = layer.heads,
                                  .q_lora = layer.dims.q_lora_rank,
                                  .latent = layer.dims.kv_lora_rank,
                                  .nope = layer.dims.qk_nope_head_dim,
                                  .rope_dim = layer.dims.qk_rope_head_dim,
                                  .rope = step.rope,
                                  .segments = step.segments,
                                  .kv = kv,
                                  .q = buffers.q,
                                  .workspace = buffers.workspace});
  ops::mla_attend(step.context, {.q = buffers.q,
                                 .rows = step.rows,
                                 .heads = layer.heads,
                                 .latent = layer.dims.kv_lora_rank,
                                 .value_dim = layer.dims.v_head_dim,
                                 .scale = layer.scale,
                                 .w_uk = &layer.w_uk,
                                 .w_uv = &layer.w_uv,
                                 .segments = step.segments,
                                 .kv = kv,
                                 .attended = buffers.latent_attended,
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

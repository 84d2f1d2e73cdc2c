// Multi-head latent attention, absorbed (DeepSeek-V2, arXiv 2405.04434, section 2.1; DeepSeek-V3, section
// 2.1.1): the cache holds one latent and one rotary key per token, shared by all heads.
#pragma once

#include <string>

#include "kernels/ops/args.h"
#include "model/layers/step.h"
#include "model/loader.h"

namespace gantry {

struct Mla {
  Norm norm{};
  PackedWeight q_a_kv_a{};  // [q_lora + latent + rope, hidden]; without q_lora [latent + rope, hidden]
  Norm q_a_norm{};
  PackedWeight q_b{};  // [heads * (nope + rope), q_lora]; without q_lora q_proj [.., hidden]
  Norm kv_a_norm{};
  PackedWeight w_uk{};    // heads x [latent, nope]
  PackedWeight w_uv{};    // heads x [value, latent]
  PackedWeight output{};  // [hidden, heads * value]
  int32_t heads = 0;
  MlaConfig dims{};
  float scale = 0;  // of the softmax
};

// Tensors {prefix}input_layernorm and {prefix}self_attn.*; prefix = "model.layers.3.". config.mla is set.
Result<Mla> load_mla(Loader& loader, const ModelConfig& config, const std::string& prefix);
ActivationWidths mla_widths(const ModelConfig& config);
KvLayout mla_kv_layout(const ModelConfig& config, DType dtype);

// x += output(attention(norm(x))); the rows' latents and rotary keys go to the cache. Errors are the
// Communicator's.
Status mla(const Step& step, const Mla& layer, const KvView& kv);

}  // namespace gantry

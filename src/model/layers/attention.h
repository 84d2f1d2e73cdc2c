// Grouped-query attention (arXiv 2305.13245) with rotary positions, as Llama and Qwen2 have it.
#pragma once

#include <string>

#include "kernels/ops/args.h"
#include "model/layers/step.h"
#include "model/loader.h"

namespace gantry {

struct Attention {
  Norm norm{};
  PackedWeight qkv{};     // [(heads + 2 kv_heads) * head_dim, hidden]
  PackedWeight output{};  // [hidden, heads * head_dim]
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
};

// Tensors {prefix}input_layernorm and {prefix}self_attn.*; prefix = "model.layers.3.".
Result<Attention> load_attention(Loader& loader, const ModelConfig& config, const std::string& prefix);
ActivationWidths attention_widths(const ModelConfig& config);
KvLayout attention_kv_layout(const ModelConfig& config, DType dtype);

// x += output(attention(norm(x))); the rows' keys and values go to the cache. Errors are the Communicator's.
Status attention(const Step& step, const Attention& layer, const KvView& kv);

}  // namespace gantry

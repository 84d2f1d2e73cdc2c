// llama.cpp's tensor names → Hugging Face's.
#pragma once

#include <string>
#include <string_view>

namespace gantry {

struct HfName {
  // The name, or for stacked experts [experts, out, in] what stands before and after the expert's number.
  std::string name;
  std::string after_expert;
  bool stacked_experts = false;
};

// "blk.3.attn_q.weight" → "model.layers.3.self_attn.q_proj.weight". An unknown name stays as it is, and so
// does "rope_freqs.weight".
HfName hf_name_from_gguf(std::string_view name);

}  // namespace gantry

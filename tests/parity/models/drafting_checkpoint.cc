#include "drafting_checkpoint.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <string>

namespace gantry::testing {

nlohmann::json drafting_config(int layers, int mtp_layers) {
  return {{"architectures", {"DeepseekV3ForCausalLM"}},
          {"model_type", "deepseek_v3"},
          {"torch_dtype", "float32"},
          {"hidden_size", 32},
          {"intermediate_size", 48},
          {"moe_intermediate_size", 16},
          {"num_hidden_layers", layers},
          {"first_k_dense_replace", 0},
          {"num_attention_heads", 2},
          {"num_key_value_heads", 2},
          {"q_lora_rank", 16},
          {"kv_lora_rank", 16},
          {"qk_nope_head_dim", 8},
          {"qk_rope_head_dim", 8},
          {"v_head_dim", 8},
          {"n_routed_experts", 4},
          {"n_shared_experts", 1},
          {"num_experts_per_tok", 2},
          {"n_group", 2},
          {"topk_group", 1},
          {"norm_topk_prob", true},
          {"routed_scaling_factor", 1.5},
          {"vocab_size", kDraftingVocab},
          {"rms_norm_eps", 1e-6},
          {"max_position_embeddings", 512},
          {"rope_theta", 10000.0},
          {"hidden_act", "silu"},
          {"num_nextn_predict_layers", mtp_layers},
          {"tie_word_embeddings", false}};
}

std::vector<RandomTensor> copying_tensors(uint64_t seed) {
  std::vector<RandomTensor> tensors = random_tensors(drafting_config(1, 1), seed);
  const auto find = [&](const std::string& name) -> RandomTensor& {
    return *std::find_if(tensors.begin(), tensors.end(),
                         [&](const RandomTensor& t) { return t.name == name; });
  };
  const auto floats = [&](const std::string& name) {
    std::vector<std::byte>& bytes = find(name).bytes;
    return std::span(reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float));
  };
  const std::string module = "model.layers.1.", layer = "model.layers.0.";
  const std::span<float> embedding = floats("model.embed_tokens.weight");
  for (size_t row = 0; row < embedding.size(); row += 32) {
    float sum = 0;
    for (size_t i = 0; i < 32; ++i) sum += embedding[row + i] * embedding[row + i];
    for (size_t i = 0; i < 32; ++i) embedding[row + i] /= std::sqrt(sum / 32);
  }
  for (RandomTensor& tensor : tensors) {
    if (!tensor.name.starts_with(module)) continue;
    const std::string rest = tensor.name.substr(module.size());
    if (rest == "embed_tokens.weight")
      tensor.bytes = find("model.embed_tokens.weight").bytes;
    else if (rest == "shared_head.head.weight")
      tensor.bytes = find("lm_head.weight").bytes;
    else if (rest == "shared_head.norm.weight")
      tensor.bytes = find("model.norm.weight").bytes;
    else if (rest == "enorm.weight")
      std::fill_n(floats(tensor.name).data(), 32, 1.0f);
    else if (rest == "eh_proj.weight") {
      const std::span<float> project = floats(tensor.name);
      for (size_t i = 0; i < project.size(); ++i) project[i] = i / 64 == i % 64 ? 1.0f : 0.0f;
    } else if (rest != "hnorm.weight") {
      tensor.bytes = find(layer + rest).bytes;
    }
  }
  return tensors;
}

}  // namespace gantry::testing

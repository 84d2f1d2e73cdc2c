// A small Llama of random weights, in memory.
#pragma once

#include <algorithm>
#include <deque>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "formats/weight_source.h"

namespace gantry {

class RandomLlama : public WeightSource {
 public:
  static constexpr int32_t kVocab = 260;

  RandomLlama() {
    config_ = {{"architectures", {"LlamaForCausalLM"}},
               {"model_type", "llama"},
               {"hidden_size", 48},
               {"intermediate_size", 80},
               {"num_hidden_layers", 2},
               {"num_attention_heads", 4},
               {"num_key_value_heads", 2},
               {"head_dim", 12},
               {"vocab_size", kVocab},
               {"max_position_embeddings", 512},
               {"rms_norm_eps", 1e-5},
               {"rope_theta", 10000.0},
               {"hidden_act", "silu"},
               {"tie_word_embeddings", true}};
    add("model.embed_tokens.weight", {kVocab, 48});
    add("model.norm.weight", {48});
    for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
      add(layer + "input_layernorm.weight", {48});
      add(layer + "post_attention_layernorm.weight", {48});
      add(layer + "self_attn.q_proj.weight", {48, 48});
      add(layer + "self_attn.k_proj.weight", {24, 48});
      add(layer + "self_attn.v_proj.weight", {24, 48});
      add(layer + "self_attn.o_proj.weight", {48, 48});
      add(layer + "mlp.gate_proj.weight", {80, 48});
      add(layer + "mlp.up_proj.weight", {80, 48});
      add(layer + "mlp.down_proj.weight", {48, 80});
    }
    std::sort(weights_.begin(), weights_.end(),
              [](const WeightInfo& a, const WeightInfo& b) { return a.name < b.name; });
  }
  const nlohmann::json& config() const override { return config_; }
  const nlohmann::json& generation_config() const override { return generation_config_; }
  const VocabSpec* vocab() const override { return nullptr; }
  const std::string& path() const override { return path_; }
  const std::vector<WeightInfo>& weights() const override { return weights_; }
  const WeightInfo* find(std::string_view name) const override {
    for (const WeightInfo& weight : weights_) {
      if (weight.name == name) return &weight;
    }
    return nullptr;
  }

 private:
  void add(const std::string& name, const Shape& shape) {
    std::normal_distribution<float> normal(0, 0.5f);
    std::vector<float>& data = data_.emplace_back(static_cast<size_t>(shape.elements()));
    for (float& x : data) x = normal(random_);
    weights_.push_back({name, {data.data(), DType::kF32, shape}, "memory"});
  }

  std::mt19937_64 random_{11};
  nlohmann::json config_;
  nlohmann::json generation_config_ = nlohmann::json::object();
  std::string path_ = "random-llama";
  std::deque<std::vector<float>> data_;
  std::vector<WeightInfo> weights_;
};

}  // namespace gantry

// config.json, understood: every key is used, known to be harmless, or refused by name.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/status.h"

namespace gantry {

struct RopeConfig {
  enum class Scaling { kNone, kLinear, kLlama3, kYarn };
  double theta = 10000.0;
  Scaling scaling = Scaling::kNone;
  double factor = 1.0;
  double low_freq_factor = 1.0;  // llama3
  double high_freq_factor = 4.0;
  int64_t original_max_position = 0;
  double beta_fast = 32.0;  // yarn
  double beta_slow = 1.0;
  double mscale = 0.0;  // 0: absent
  double mscale_all_dim = 0.0;
  double attention_factor = 0.0;  // 0: derived from factor, mscale and mscale_all_dim
  bool truncate = true;           // whether the bounds of yarn's ramp are whole dimensions
  bool interleaved = false;
};

struct MlaConfig {
  int32_t q_lora_rank = 0;  // 0: q_proj
  int32_t kv_lora_rank = 0;
  int32_t qk_nope_head_dim = 0;
  int32_t qk_rope_head_dim = 0;
  int32_t v_head_dim = 0;
};

struct MoeConfig {
  int32_t experts = 0;
  int32_t experts_per_token = 0;
  int32_t shared_experts = 0;
  int32_t intermediate = 0;  // of one expert
  int32_t groups = 1;
  int32_t topk_group = 1;
  bool norm_topk_prob = true;
  double routed_scaling_factor = 1.0;
  int32_t first_dense_layers = 0;
};

// DeepSeek-V3's FP8 recipe (arXiv 2412.19437, section 3.3): which matrices are FP8 their tensors say, scales
// are per 128 x 128 block.
struct Fp8Config {
  // scale_fmt ue8m0 (V3.1): when activations are quantised, their scales are powers of two.
  bool power_of_two_scales = false;
};

struct ModelConfig {
  std::string architecture;
  int32_t layers = 0;
  int32_t hidden = 0;
  int32_t heads = 0;
  int32_t kv_heads = 0;  // MLA: as many as heads
  int32_t head_dim = 0;  // MLA: qk_nope_head_dim + qk_rope_head_dim
  int32_t intermediate = 0;
  int32_t vocab = 0;
  int32_t max_position = 0;  // max_position_embeddings
  float rms_eps = 1e-6f;
  bool tied_embeddings = false;
  bool qkv_bias = false;     // Qwen2: always; Llama: attention_bias; MLA: on q_a and kv_a
  bool output_bias = false;  // of attention
  bool mlp_bias = false;
  int32_t mtp_layers = 0;  // multi-token prediction modules that the checkpoint holds after its layers
  RopeConfig rope;
  std::optional<MlaConfig> mla;
  std::optional<MoeConfig> moe;
  std::optional<Fp8Config> fp8;
  std::vector<TokenId> eos;
  std::optional<TokenId> bos;
};

// The architectures that load_model() knows, for messages.
std::string supported_architectures();

// kUnimplemented or kInvalidArgument; param() is the key. generation_config adds end-of-sequence ids.
Result<ModelConfig> parse_model_config(const nlohmann::json& config, const nlohmann::json& generation_config);

}  // namespace gantry

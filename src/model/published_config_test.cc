// The configurations of DeepSeek's checkpoints and distills, as numbers: every key is understood, and the tensors
// that follow have the published count of parameters.
#include <gtest/gtest.h>

#include <string>

#include "model/checkpoint_tensors.h"
#include "model/config.h"

namespace gantry {
namespace {

using nlohmann::json;

// V3, V3-0324, R1 and R1-0528 differ in no number.
constexpr const char* kDeepseekV3 = R"({
  "architectures": ["DeepseekV3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
  "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config",
               "AutoModel": "modeling_deepseek.DeepseekV3Model",
               "AutoModelForCausalLM": "modeling_deepseek.DeepseekV3ForCausalLM"},
  "aux_loss_alpha": 0.001, "bos_token_id": 0, "eos_token_id": 1, "ep_size": 1, "first_k_dense_replace": 3,
  "hidden_act": "silu", "hidden_size": 7168, "initializer_range": 0.02, "intermediate_size": 18432,
  "kv_lora_rank": 512, "max_position_embeddings": 163840, "model_type": "deepseek_v3",
  "moe_intermediate_size": 2048, "moe_layer_freq": 1, "n_group": 8, "n_routed_experts": 256,
  "n_shared_experts": 1, "norm_topk_prob": true, "num_attention_heads": 128, "num_experts_per_tok": 8,
  "num_hidden_layers": 61, "num_key_value_heads": 128, "num_nextn_predict_layers": 1, "pretraining_tp": 1,
  "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
  "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
                          "weight_block_size": [128, 128]},
  "rms_norm_eps": 1e-06,
  "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0,
                   "original_max_position_embeddings": 4096, "type": "yarn"},
  "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "seq_aux": true,
  "tie_word_embeddings": false, "topk_group": 4, "topk_method": "noaux_tc", "torch_dtype": "bfloat16",
  "transformers_version": "4.46.3", "use_cache": true, "v_head_dim": 128, "vocab_size": 129280})";

constexpr const char* kQwen = R"({
  "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
  "eos_token_id": 151643, "hidden_act": "silu", "initializer_range": 0.02, "max_position_embeddings": 131072,
  "model_type": "qwen2", "rms_norm_eps": 1e-06, "rope_theta": 10000, "sliding_window": 4096,
  "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.44.0",
  "use_cache": true, "use_mrope": false, "use_sliding_window": false})";

constexpr const char* kLlama = R"({
  "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
  "bos_token_id": 128000, "eos_token_id": 128001, "hidden_act": "silu", "initializer_range": 0.02,
  "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama", "pretraining_tp": 1,
  "rms_norm_eps": 1e-05,
  "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                   "original_max_position_embeddings": 8192, "rope_type": "llama3"},
  "rope_theta": 500000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
  "transformers_version": "4.43.0.dev0", "use_cache": true, "vocab_size": 128256})";

struct Published {
  const char* name;
  const char* family;
  const char* differences;
  int64_t parameters;  // scales not counted
};

constexpr Published kPublished[] = {
    {"DeepSeek_R1", kDeepseekV3, "{}", 684'489'845'504},
    {"DeepSeek_R1_0528", kDeepseekV3, R"({"transformers_version": "4.46.3"})", 684'489'845'504},
    {"DeepSeek_V3", kDeepseekV3, R"({"transformers_version": "4.33.1"})", 684'489'845'504},
    {"DeepSeek_V3_0324", kDeepseekV3, R"({"transformers_version": "4.46.3"})", 684'489'845'504},
    {"DeepSeek_V3_1", kDeepseekV3,
     R"({"quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
                                 "scale_fmt": "ue8m0", "weight_block_size": [128, 128]},
         "transformers_version": "4.44.2"})",
     684'489'845'504},
    {"R1_Distill_Qwen_1_5B", kQwen,
     R"({"hidden_size": 1536, "intermediate_size": 8960, "max_window_layers": 21, "num_attention_heads": 12,
         "num_hidden_layers": 28, "num_key_value_heads": 2, "vocab_size": 151936})",
     1'777'088'000},
    {"R1_Distill_Qwen_7B", kQwen,
     R"({"hidden_size": 3584, "intermediate_size": 18944, "max_window_layers": 28, "num_attention_heads": 28,
         "num_hidden_layers": 28, "num_key_value_heads": 4, "vocab_size": 152064})",
     7'615'616'512},
    {"R1_Distill_Qwen_14B", kQwen,
     R"({"hidden_size": 5120, "intermediate_size": 13824, "max_window_layers": 48, "num_attention_heads": 40,
         "num_hidden_layers": 48, "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0,
         "sliding_window": 131072, "vocab_size": 152064})",
     14'770'033'664},
    {"R1_Distill_Qwen_32B", kQwen,
     R"({"hidden_size": 5120, "intermediate_size": 27648, "max_window_layers": 64, "num_attention_heads": 40,
         "num_hidden_layers": 64, "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0,
         "sliding_window": 131072, "vocab_size": 152064})",
     32'763'876'352},
    {"R1_Distill_Llama_8B", kLlama,
     R"({"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32, "num_hidden_layers": 32,
         "num_key_value_heads": 8})",
     8'030'261'248},
    {"R1_Distill_Llama_70B", kLlama,
     R"({"hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64, "num_hidden_layers": 80,
         "num_key_value_heads": 8})",
     70'553'706'496},
};

class PublishedConfig : public testing::TestWithParam<Published> {};
INSTANTIATE_TEST_SUITE_P(Models, PublishedConfig, testing::ValuesIn(kPublished),
                         [](const auto& test) { return test.param.name; });

TEST_P(PublishedConfig, IsUnderstoodInFull) {
  json config = json::parse(GetParam().family);
  config.update(json::parse(GetParam().differences));
  const Result<ModelConfig> model = parse_model_config(config, {{"temperature", 0.6}, {"top_p", 0.95}});
  ASSERT_TRUE(model.ok()) << model.status().message();
  const Result<WeightFormat> format = parse_weight_format(config, *model);
  ASSERT_TRUE(format.ok()) << format.status().message();
  int64_t parameters = 0;
  for (const CheckpointTensor& tensor : checkpoint_tensors(*model, *format)) {
    if (!tensor.name.ends_with("_scale_inv")) parameters += tensor.shape.elements();
  }
  EXPECT_EQ(parameters, GetParam().parameters);
  EXPECT_EQ(model->fp8.has_value(), config.contains("quantization_config"));
  EXPECT_EQ(model->fp8 && model->fp8->power_of_two_scales, GetParam().name == std::string("DeepSeek_V3_1"));
}

}  // namespace
}  // namespace gantry

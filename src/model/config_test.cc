#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace gantry {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

// Llama-3.2-1B-Instruct's config.json as published.
json llama() {
  return json::parse(R"({
    "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
    "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu",
    "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192,
    "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama", "num_attention_heads": 32,
    "num_hidden_layers": 16, "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
    "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                     "original_max_position_embeddings": 8192, "rope_type": "llama3"},
    "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
    "transformers_version": "4.45.0.dev0", "use_cache": true, "vocab_size": 128256})");
}

// DeepSeek-R1-Distill-Qwen-1.5B.
json qwen2() {
  return json::parse(R"({
    "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
    "eos_token_id": 151643, "hidden_act": "silu", "hidden_size": 1536, "initializer_range": 0.02,
    "intermediate_size": 8960, "max_position_embeddings": 131072, "max_window_layers": 21,
    "model_type": "qwen2", "num_attention_heads": 12, "num_hidden_layers": 28, "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06, "rope_theta": 10000, "sliding_window": 4096, "tie_word_embeddings": false,
    "torch_dtype": "bfloat16", "transformers_version": "4.44.0", "use_cache": true, "use_mrope": false,
    "use_sliding_window": false, "vocab_size": 151936})");
}

// DeepSeek-R1.
json deepseek() {
  return json::parse(R"({
    "architectures": ["DeepseekV3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"}, "aux_loss_alpha": 0.001,
    "bos_token_id": 0, "eos_token_id": 1, "ep_size": 1, "first_k_dense_replace": 3, "hidden_act": "silu",
    "hidden_size": 7168, "initializer_range": 0.02, "intermediate_size": 18432, "kv_lora_rank": 512,
    "max_position_embeddings": 163840, "model_type": "deepseek_v3", "moe_intermediate_size": 2048,
    "moe_layer_freq": 1, "n_group": 8, "n_routed_experts": 256, "n_shared_experts": 1,
    "norm_topk_prob": true, "num_attention_heads": 128, "num_experts_per_tok": 8, "num_hidden_layers": 61,
    "num_key_value_heads": 128, "num_nextn_predict_layers": 1, "pretraining_tp": 1, "q_lora_rank": 1536,
    "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
                            "weight_block_size": [128, 128]},
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "rms_norm_eps": 1e-06,
    "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0,
                     "original_max_position_embeddings": 4096, "type": "yarn"},
    "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "seq_aux": true,
    "tie_word_embeddings": false, "topk_group": 4, "topk_method": "noaux_tc", "torch_dtype": "bfloat16",
    "transformers_version": "4.46.3", "use_cache": true, "v_head_dim": 128, "vocab_size": 129280})");
}

ModelConfig parsed(const json& config, const json& generation = json::object()) {
  Result<ModelConfig> result = parse_model_config(config, generation);
  EXPECT_TRUE(result.ok()) << result.status().message();
  return result.ok() ? *result : ModelConfig{};
}

Status refusal(json config, const json& changes, const json& generation = json::object()) {
  for (const auto& [key, value] : changes.items()) config[key] = value;
  const Status status = parse_model_config(config, generation).status();
  EXPECT_EQ(status.message().find('\n'), std::string::npos) << status.message();
  return status;
}

TEST(ModelConfig, ReadsLlama) {
  const ModelConfig m = parsed(llama(), {{"eos_token_id", {128009, 7}}, {"temperature", 0.6}});
  EXPECT_EQ(m.architecture, "LlamaForCausalLM");
  EXPECT_EQ(m.layers, 16);
  EXPECT_EQ(m.hidden, 2048);
  EXPECT_EQ(m.heads, 32);
  EXPECT_EQ(m.kv_heads, 8);
  EXPECT_EQ(m.head_dim, 64);
  EXPECT_EQ(m.intermediate, 8192);
  EXPECT_EQ(m.vocab, 128256);
  EXPECT_EQ(m.max_position, 131072);
  EXPECT_FLOAT_EQ(m.rms_eps, 1e-5f);
  EXPECT_TRUE(m.tied_embeddings);
  EXPECT_FALSE(m.qkv_bias);
  EXPECT_EQ(m.rope.scaling, RopeConfig::Scaling::kLlama3);
  EXPECT_EQ(m.rope.theta, 500000.0);
  EXPECT_EQ(m.rope.factor, 32.0);
  EXPECT_EQ(m.rope.original_max_position, 8192);
  EXPECT_FALSE(m.rope.interleaved);
  EXPECT_FALSE(m.mla);
  EXPECT_THAT(m.eos, ElementsAre(128001, 128008, 128009, 7));
  EXPECT_EQ(m.bos, 128000);
}

TEST(ModelConfig, ReadsQwen2) {
  const ModelConfig m = parsed(qwen2());
  EXPECT_EQ(m.head_dim, 128);
  EXPECT_EQ(m.kv_heads, 2);
  EXPECT_TRUE(m.qkv_bias);
  EXPECT_FALSE(m.output_bias);
  EXPECT_EQ(m.rope.scaling, RopeConfig::Scaling::kNone);
  EXPECT_THAT(m.eos, ElementsAre(151643));
}

TEST(ModelConfig, ReadsDeepseekR1) {
  const ModelConfig m = parsed(deepseek());
  ASSERT_TRUE(m.mla && m.moe);
  EXPECT_EQ(m.mla->q_lora_rank, 1536);
  EXPECT_EQ(m.mla->kv_lora_rank, 512);
  EXPECT_EQ(m.head_dim, 192);
  EXPECT_EQ(m.mla->v_head_dim, 128);
  EXPECT_EQ(m.moe->experts, 256);
  EXPECT_EQ(m.moe->experts_per_token, 8);
  EXPECT_EQ(m.moe->shared_experts, 1);
  EXPECT_EQ(m.moe->groups, 8);
  EXPECT_EQ(m.moe->topk_group, 4);
  EXPECT_EQ(m.moe->first_dense_layers, 3);
  EXPECT_EQ(m.moe->routed_scaling_factor, 2.5);
  EXPECT_EQ(m.mtp_layers, 1);
  EXPECT_TRUE(m.rope.interleaved);
  EXPECT_EQ(m.rope.scaling, RopeConfig::Scaling::kYarn);
  EXPECT_EQ(m.rope.mscale, 1.0);
  EXPECT_EQ(m.rope.mscale_all_dim, 1.0);
  ASSERT_TRUE(m.fp8);
  EXPECT_FALSE(m.fp8->power_of_two_scales);
}

TEST(ModelConfig, TakesBothSpellingsOfRope) {
  json config = llama();
  config.erase("rope_theta");
  config["rope_parameters"] = config["rope_scaling"];
  config["rope_parameters"]["rope_theta"] = 250000;
  config.erase("rope_scaling");
  const ModelConfig m = parsed(config);
  EXPECT_EQ(m.rope.theta, 250000.0);
  EXPECT_EQ(m.rope.scaling, RopeConfig::Scaling::kLlama3);
  EXPECT_EQ(m.rope.original_max_position, 8192);
}

TEST(ModelConfig, NullIsAbsent) {
  json config = llama();
  for (const char* key : {"rope_scaling", "num_key_value_heads", "head_dim", "eos_token_id", "clip_qkv"}) {
    config[key] = nullptr;
  }
  const ModelConfig m = parsed(config);
  EXPECT_EQ(m.kv_heads, 32);
  EXPECT_EQ(m.head_dim, 64);
  EXPECT_TRUE(m.eos.empty());
  EXPECT_EQ(m.rope.scaling, RopeConfig::Scaling::kNone);
}

TEST(ModelConfig, YarnDerivesItsFactorAndOriginalContext) {
  json config = qwen2();
  config["rope_scaling"] = {{"type", "yarn"}, {"original_max_position_embeddings", 32768}};
  EXPECT_EQ(parsed(config).rope.factor, 4.0);
  config["rope_scaling"] = {{"type", "yarn"}, {"factor", 2.0}};
  EXPECT_EQ(parsed(config).rope.original_max_position, 131072);
  config["original_max_position_embeddings"] = 1024;  // wins, as in transformers
  EXPECT_EQ(parsed(config).rope.original_max_position, 1024);
}

TEST(ModelConfig, NamesUnknownKeysAndTheNearestKnown) {
  const Status status = refusal(llama(), {{"rope_thetta", 1.0}});
  EXPECT_EQ(status.code(), StatusCode::kUnimplemented);
  EXPECT_EQ(status.param(), "rope_thetta");
  EXPECT_THAT(status.message(), HasSubstr("did you mean rope_theta?"));
  EXPECT_EQ(
      refusal(llama(), {{"rope_scaling", {{"rope_type", "linear"}, {"factor", 2}, {"betafast", 1}}}}).param(),
      "rope_scaling.betafast");
  EXPECT_THAT(refusal(llama(), {{"embedding_multiplier", 12}}).message(), HasSubstr("not a known"));
  EXPECT_TRUE(refusal(llama(), {{"_attn_implementation_autoset", true}}).ok());
}

struct Hostile {
  const char* changes;
  const char* message;
};

class HostileConfig : public testing::TestWithParam<std::pair<const char*, Hostile>> {};

TEST_P(HostileConfig, IsRefusedInOneLine) {
  const auto& [family, hostile] = GetParam();
  const json base = family == std::string("llama")   ? llama()
                    : family == std::string("qwen2") ? qwen2()
                                                     : deepseek();
  const Status status = refusal(base, json::parse(hostile.changes));
  EXPECT_FALSE(status.ok()) << hostile.changes;
  EXPECT_THAT(status.message(), HasSubstr(hostile.message));
  EXPECT_FALSE(status.param().empty()) << status.message();
}

INSTANTIATE_TEST_SUITE_P(
    Llama, HostileConfig,
    testing::ValuesIn(std::vector<std::pair<const char*, Hostile>>{
        {"llama", {R"({"architectures": null})", "architectures is missing"}},
        {"llama", {R"({"architectures": "LlamaForCausalLM"})", "want a list"}},
        {"llama",
         {R"({"architectures": ["MixtralForCausalLM"]})", "supported: LlamaForCausalLM, Qwen2ForCausalLM"}},
        {"llama", {R"({"architectures": [[1], {"a": 2}]})", "not supported"}},
        {"llama", {R"({"hidden_size": null})", "hidden_size is missing"}},
        {"llama", {R"({"hidden_size": -5})", "hidden_size is -5: want an integer from 1 to 1048576"}},
        {"llama", {R"({"hidden_size": 0})", "hidden_size is 0"}},
        {"llama", {R"({"hidden_size": 2048.5})", "hidden_size is 2048.5"}},
        {"llama", {R"({"hidden_size": "2048"})", "hidden_size is \"2048\""}},
        {"llama", {R"({"hidden_size": [2048]})", "hidden_size is [2048]"}},
        {"llama", {R"({"hidden_size": 18446744073709551615})", "hidden_size is 18446744073709551615"}},
        {"llama",
         {R"({"num_hidden_layers": 9223372036854775807})", "num_hidden_layers is 9223372036854775807"}},
        {"llama", {R"({"num_hidden_layers": 1e300})", "num_hidden_layers is 1e+300"}},
        {"llama", {R"({"num_attention_heads": 31})", "no multiple of num_key_value_heads 8"}},
        {"llama",
         {R"({"num_attention_heads": 24, "head_dim": null})", "no multiple of num_attention_heads 24"}},
        {"llama", {R"({"num_attention_heads": 4096, "head_dim": null})", "no multiple"}},
        {"llama", {R"({"head_dim": 63})", "head_dim 63 is odd"}},
        {"llama", {R"({"vocab_size": 128009})", "eos_token_id is [128001,128008,128009]: want token ids"}},
        {"llama", {R"({"eos_token_id": -1})", "eos_token_id is -1"}},
        {"llama", {R"({"eos_token_id": {"a": 1}})", "eos_token_id"}},
        {"llama", {R"({"bos_token_id": [1, 2]})", "bos_token_id"}},
        {"llama", {R"({"rms_norm_eps": 0})", "rms_norm_eps is 0: want a number above 0"}},
        {"llama", {R"({"rms_norm_eps": "1e-5"})", "rms_norm_eps"}},
        {"llama",
         {R"({"hidden_act": "gelu"})", "hidden_act \"gelu\" is not supported; supported: silu, swish"}},
        {"llama", {R"({"tie_word_embeddings": "yes"})", "want true or false"}},
        {"llama", {R"({"rope_theta": 1})", "rope_theta is 1: want a number above 1"}},
        {"llama", {R"({"rope_scaling": "yarn"})", "rope_scaling is \"yarn\": want an object"}},
        {"llama",
         {R"({"rope_scaling": {"rope_type": "longrope", "factor": 2}})",
          "supported: default, linear, llama3, yarn"}},
        {"llama", {R"({"rope_scaling": {"rope_type": "linear"}})", "rope_scaling.factor is missing"}},
        {"llama", {R"({"rope_scaling": {"rope_type": "linear", "factor": 0}})", "rope_scaling.factor is 0"}},
        {"llama",
         {R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4}})",
          "not above low_freq_factor 4"}},
        {"llama", {R"({"sliding_window": 4096})", "sliding_window is not supported"}},
        {"llama", {R"({"partial_rotary_factor": 0.5})", "partial_rotary_factor is not supported"}},
        {"llama",
         {R"({"quantization_config": {"quant_method": "awq"}})",
          "quantization_config (quant_method \"awq\") is not supported; supported weights"}},
        {"llama",
         {R"({"quantization_config": {"quant_method": "fp8"}})",
          "quantization_config.weight_block_size null is not supported; supported: [128, 128]"}},
        {"llama", {R"({"compression_config": {"quant_method": "fp8"}})", "compression_config"}},
        {"llama", {R"({"quantization_config": 7})", "quantization_config"}},
        {"llama", {R"({"layer_types": ["sliding_attention"]})", "layer_types"}},
        {"qwen2", {R"({"use_sliding_window": true})", "use_sliding_window is not supported"}},
        {"qwen2", {R"({"use_mrope": true})", "use_mrope is not supported"}},
        {"deepseek",
         {R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [1, 128]}})",
          "quantization_config.weight_block_size [1,128] is not supported; supported: [128, 128]"}},
        {"deepseek",
         {R"({"quantization_config": {"quant_method": "fp8", "fmt": "e5m2", "weight_block_size": [128, 128]}})",
          "quantization_config.fmt \"e5m2\" is not supported; supported: e4m3"}},
        {"deepseek",
         {R"({"quantization_config": {"quant_method": "fp8", "activation_scheme": "static",
              "weight_block_size": [128, 128]}})",
          "quantization_config.activation_scheme \"static\" is not supported; supported: dynamic"}},
        {"deepseek",
         {R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128], "bits": 8}})",
          "quantization_config.\"bits\" (= 8) is not a known configuration key"}},
        {"deepseek", {R"({"kv_lora_rank": null})", "kv_lora_rank is missing"}},
        {"deepseek", {R"({"qk_rope_head_dim": 63})", "qk_rope_head_dim 63 is odd"}},
        {"deepseek", {R"({"num_key_value_heads": 8})", "differs from num_attention_heads 128"}},
        {"deepseek",
         {R"({"scoring_func": "softmax"})", "scoring_func \"softmax\" is not supported; supported: sigmoid"}},
        {"deepseek", {R"({"topk_method": "greedy"})", "supported: noaux_tc"}},
        {"deepseek", {R"({"moe_layer_freq": 2})", "moe_layer_freq is 2"}},
        {"deepseek", {R"({"n_group": 7})", "n_routed_experts 256 is no multiple of n_group 7"}},
        {"deepseek", {R"({"topk_group": 9})", "topk_group 9 exceeds n_group 8"}},
        {"deepseek",
         {R"({"num_experts_per_tok": 129})",
          "num_experts_per_tok 129 exceeds the 128 experts of 4 of 8 groups"}},
        {"deepseek", {R"({"n_routed_experts": 1000000})", "n_routed_experts is 1000000"}},
        {"deepseek", {R"({"n_shared_experts": 1024, "moe_intermediate_size": 1048576})", "exceeds 1048576"}},
        {"deepseek", {R"({"routed_scaling_factor": -1})", "routed_scaling_factor is -1"}},
    }));

TEST(ModelConfig, RefusesWhatIsNoObject) {
  for (const char* text : {"null", "[]", "7", "\"x\""}) {
    EXPECT_FALSE(parse_model_config(json::parse(text), json::object()).ok()) << text;
  }
  EXPECT_THAT(refusal(llama(), json::object(), {{"eos_token_id", "</s>"}}).message(),
              HasSubstr("generation_config.eos_token_id"));
}

TEST(ModelConfig, CutsLongValues) {
  json config = llama();
  config["architectures"] = json::array();
  for (int i = 0; i < 100'000; ++i) config["architectures"].push_back("X\n");
  EXPECT_LT(refusal(config, json::object()).message().size(), 300u);
  EXPECT_LT(refusal(llama(), {{"hidden_size", std::string(1'000'000, 'x')}}).message().size(), 300u);
  EXPECT_LT(refusal(llama(), {{std::string(1'000'000, 'k'), 1}}).message().size(), 400u);
}

}  // namespace
}  // namespace gantry

#include "formats/gguf_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "formats/test_files.h"

namespace gantry {
namespace {

using nlohmann::json;
using testing::GgufWriter;
using ::testing::HasSubstr;
using testing::small_llama_metadata;

Result<json> config_of(const GgufWriter& writer, const std::optional<VocabSpec>& vocab = {}) {
  const std::string file = writer.build();
  const auto gguf = parse_gguf(std::as_bytes(std::span(file)), file.size(), "m.gguf");
  if (!gguf.ok()) return gguf.status();
  return config_from_gguf(*gguf, vocab, "m.gguf");
}

void expect_refused(const GgufWriter& writer, StatusCode code, const std::string& part) {
  const auto config = config_of(writer);
  ASSERT_FALSE(config.ok()) << "accepted, expected: " << part;
  EXPECT_EQ(config.status().code(), code) << config.status().message();
  EXPECT_TRUE(config.status().message().starts_with("m.gguf: ")) << config.status().message();
  EXPECT_THAT(config.status().message(), HasSubstr(part));
}

// DeepSeek-R1's own metadata, as llama.cpp's converter writes it today.
GgufWriter deepseek_r1() {
  GgufWriter writer;
  writer.string("general.architecture", "deepseek2")
      .u32("deepseek2.block_count", 61)
      .u32("deepseek2.context_length", 163840)
      .u32("deepseek2.embedding_length", 7168)
      .u32("deepseek2.feed_forward_length", 18432)
      .u32("deepseek2.attention.head_count", 128)
      .u32("deepseek2.attention.head_count_kv", 1)
      .f32("deepseek2.rope.freq_base", 10000)
      .f32("deepseek2.attention.layer_norm_rms_epsilon", 1e-6f)
      .u32("deepseek2.expert_used_count", 8)
      .u32("deepseek2.expert_group_count", 8)
      .u32("deepseek2.expert_group_used_count", 4)
      .u32("deepseek2.leading_dense_block_count", 3)
      .u32("deepseek2.vocab_size", 129280)
      .u32("deepseek2.attention.q_lora_rank", 1536)
      .u32("deepseek2.attention.kv_lora_rank", 512)
      .u32("deepseek2.attention.key_length", 576)
      .u32("deepseek2.attention.value_length", 512)
      .u32("deepseek2.attention.key_length_mla", 192)
      .u32("deepseek2.attention.value_length_mla", 128)
      .u32("deepseek2.expert_feed_forward_length", 2048)
      .u32("deepseek2.expert_count", 256)
      .u32("deepseek2.expert_shared_count", 1)
      .f32("deepseek2.expert_weights_scale", 2.5f)
      .boolean("deepseek2.expert_weights_norm", true)
      .u32("deepseek2.expert_gating_func", 2)
      .u32("deepseek2.rope.dimension_count", 64)
      .string("deepseek2.rope.scaling.type", "yarn")
      .f32("deepseek2.rope.scaling.factor", 40)
      .u32("deepseek2.rope.scaling.original_context_length", 4096)
      .f32("deepseek2.rope.scaling.yarn_log_multiplier", 0.1f);
  return writer;
}

TEST(GgufConfig, Llama) {
  const auto config = config_of(small_llama_metadata());
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ(*config, json::parse(R"({
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
    "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
    "intermediate_size": 16, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "max_position_embeddings": 64,
    "vocab_size": 4, "tie_word_embeddings": true, "torch_dtype": "float16", "attention_bias": false,
    "mlp_bias": false, "gantry_rope_interleaved": true})"));
}

TEST(GgufConfig, OptionalKeysAndTensors) {
  VocabSpec vocab;
  vocab.tokens.resize(9);
  vocab.bos = 1;
  vocab.eos = {2, 7};
  GgufWriter writer = small_llama_metadata();
  writer.u32("llama.attention.key_length", 6)
      .u32("llama.attention.value_length", 6)
      .u32("llama.rope.dimension_count", 6)
      .f32("llama.rope.freq_base", 500000)
      .tensor("token_embd.weight", 30, {8, 4}, std::string(64, 'x'))
      .tensor("output.weight", 0, {8, 4}, std::string(128, 'x'))
      .tensor("blk.0.attn_q.bias", 0, {8}, std::string(32, 'x'));
  const auto config = config_of(writer, vocab);
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ((*config)["head_dim"], 6);
  EXPECT_EQ((*config)["rope_theta"], 500000.0);
  EXPECT_EQ((*config)["torch_dtype"], "bfloat16");
  EXPECT_EQ((*config)["tie_word_embeddings"], false);
  EXPECT_EQ((*config)["attention_bias"], true);
  EXPECT_EQ((*config)["bos_token_id"], 1);
  EXPECT_EQ((*config)["eos_token_id"], (json{2, 7}));
  EXPECT_EQ((*config)["vocab_size"], 4);
}

TEST(GgufConfig, Qwen2IsNotInterleaved) {
  const auto config = config_of(GgufWriter()
                                    .string("general.architecture", "qwen2")
                                    .u32("qwen2.block_count", 2)
                                    .u32("qwen2.context_length", 64)
                                    .u32("qwen2.embedding_length", 8)
                                    .u32("qwen2.feed_forward_length", 16)
                                    .u32("qwen2.attention.head_count", 2)
                                    .f32("qwen2.attention.layer_norm_rms_epsilon", 1e-6f)
                                    .tensor("token_embd.weight", 0, {8, 5}, std::string(160, 'x')));
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ((*config)["architectures"], json::array({"Qwen2ForCausalLM"}));
  EXPECT_EQ((*config)["num_key_value_heads"], 2);
  EXPECT_EQ((*config)["vocab_size"], 5);  // the embedding's rows, where nothing else says it
  EXPECT_EQ((*config)["rms_norm_eps"], 1e-6);
  for (const char* llama_only : {"gantry_rope_interleaved", "attention_bias", "mlp_bias"}) {
    EXPECT_FALSE(config->contains(llama_only)) << llama_only;
  }
}

TEST(GgufConfig, DeepSeekR1GivesThePublishedConfiguration) {
  const auto config = config_of(deepseek_r1());
  ASSERT_TRUE(config.ok()) << config.status().message();
  const json published = json::parse(R"({
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "hidden_size": 7168,
    "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128, "q_lora_rank": 1536,
    "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "intermediate_size": 18432, "moe_intermediate_size": 2048, "n_routed_experts": 256, "n_shared_experts": 1,
    "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4, "topk_method": "noaux_tc",
    "scoring_func": "sigmoid", "norm_topk_prob": true, "routed_scaling_factor": 2.5, "vocab_size": 129280,
    "rms_norm_eps": 1e-06, "max_position_embeddings": 163840, "rope_theta": 10000,
    "first_k_dense_replace": 3, "moe_layer_freq": 1})");
  for (const auto& [key, value] : published.items()) EXPECT_EQ(config->value(key, json()), value) << key;
  EXPECT_EQ((*config)["rope_scaling"],
            json::parse(R"({"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096,
                            "mscale": 1.0, "mscale_all_dim": 1.0})"));
}

TEST(GgufConfig, RopeScaling) {
  const auto scaling = [](GgufWriter writer) {
    const auto config = config_of(writer);
    EXPECT_TRUE(config.ok()) << config.status().message();
    return config.ok() ? config->value("rope_scaling", json()) : json();
  };
  EXPECT_EQ(scaling(small_llama_metadata().string("llama.rope.scaling.type", "none")), json());
  EXPECT_EQ(scaling(small_llama_metadata()
                        .string("llama.rope.scaling.type", "linear")
                        .f32("llama.rope.scaling.factor", 4)),
            (json{{"rope_type", "linear"}, {"factor", 4.0}}));
  EXPECT_EQ(scaling(small_llama_metadata().f32("llama.rope.scale_linear", 2)),
            (json{{"rope_type", "linear"}, {"factor", 2.0}}));
  const json yarn = scaling(small_llama_metadata()
                                .string("llama.rope.scaling.type", "yarn")
                                .f32("llama.rope.scaling.factor", 4)
                                .u32("llama.rope.scaling.original_context_length", 32)
                                .f32("llama.rope.scaling.attn_factor", 0.5f)
                                .f32("llama.rope.scaling.yarn_beta_fast", 16)
                                .f32("llama.rope.scaling.yarn_beta_slow", 2)
                                .boolean("llama.rope.scaling.finetuned", true));
  EXPECT_EQ(yarn["original_max_position_embeddings"], 32);
  EXPECT_EQ(yarn["beta_fast"], 16.0);
  EXPECT_EQ(yarn["beta_slow"], 2.0);
  // llama.cpp multiplies the factor of its own, 0.1 ln(4) + 1, by attn_factor.
  EXPECT_NEAR(yarn["attention_factor"].get<double>(), 0.5 * (0.1 * std::log(4.0) + 1), 1e-12);
  expect_refused(small_llama_metadata().string("llama.rope.scaling.type", "longrope"),
                 StatusCode::kUnimplemented, "\"longrope\" is not supported; supported: none, linear, yarn");
  expect_refused(small_llama_metadata().string("llama.rope.scaling.type", "yarn"), StatusCode::kDataLoss,
                 "needs a positive rope.scaling.factor");
}

TEST(GgufConfig, RefusesArchitecturesByName) {
  expect_refused(GgufWriter(), StatusCode::kDataLoss, "general.architecture is missing");
  expect_refused(GgufWriter().string("general.architecture", "gemma3"), StatusCode::kUnimplemented,
                 "general.architecture \"gemma3\" is not supported; supported: llama, qwen2, deepseek2");
}

TEST(GgufConfig, RefusesMissingAndImpossibleValues) {
  GgufWriter sparse;
  sparse.string("general.architecture", "llama").u32("llama.block_count", 2);
  expect_refused(sparse, StatusCode::kDataLoss, "metadata key llama.embedding_length is missing");
  sparse.u32("llama.embedding_length", 0);
  expect_refused(sparse, StatusCode::kDataLoss,
                 "llama.embedding_length is not an integer from 1 to 2147483647");
  GgufWriter layers;
  layers.string("general.architecture", "llama")
      .u32("llama.embedding_length", 8)
      .u32("llama.block_count", 5000);
  expect_refused(layers, StatusCode::kDataLoss, "llama.block_count is not an integer from 1 to 4096");
  expect_refused(small_llama_metadata().f32("llama.rope.freq_base", INFINITY), StatusCode::kDataLoss,
                 "llama.rope.freq_base is not a finite number");
  expect_refused(small_llama_metadata().u8("llama.rope.scaling.type", 1), StatusCode::kDataLoss,
                 "llama.rope.scaling.type is not a string");
}

TEST(GgufConfig, RefusesWhatWouldChangeTheModel) {
  const auto unsupported = StatusCode::kUnimplemented;
  expect_refused(small_llama_metadata().u32("llama.expert_count", 8), unsupported,
                 "llama.expert_count is not supported with a value other than 0");
  expect_refused(small_llama_metadata().f32("llama.logit_scale", 2), unsupported,
                 "metadata key \"llama.logit_scale\" is not supported");
  expect_refused(small_llama_metadata().u32("llama.attention.sliding_window", 4096), unsupported,
                 "llama.attention.sliding_window is not supported");
  expect_refused(small_llama_metadata().u32("llama.rope.dimension_count", 2), unsupported,
                 "rope.dimension_count 2 is not supported with heads of 4");
  expect_refused(small_llama_metadata().u32("llama.attention.value_length", 8), unsupported,
                 "llama.attention.value_length is not supported with a value other than 4");
  expect_refused(small_llama_metadata().boolean("llama.attention.causal", false), unsupported,
                 "llama.attention.causal");
}

TEST(GgufConfig, ListsHoldOneValueForEachLayer) {
  const auto with_kv_heads = [](const std::vector<int32_t>& heads) {
    GgufWriter writer;
    writer.string("general.architecture", "llama")
        .u32("llama.block_count", 2)
        .u32("llama.context_length", 64)
        .u32("llama.embedding_length", 8)
        .u32("llama.feed_forward_length", 16)
        .u32("llama.attention.head_count", 2)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5f)
        .i32s("llama.attention.head_count_kv", heads);
    return writer;
  };
  EXPECT_EQ((*config_of(with_kv_heads({1, 1})))["num_key_value_heads"], 1);
  expect_refused(with_kv_heads({1, 2}), StatusCode::kUnimplemented,
                 "llama.attention.head_count_kv differs between layers");
  expect_refused(with_kv_heads({}), StatusCode::kDataLoss, "is not an integer from 1");
}

TEST(GgufConfig, SamplingDefaultsBecomeAGenerationConfig) {
  const std::string file = GgufWriter()
                               .f32("general.sampling.temp", 0.6f)
                               .f32("general.sampling.top_p", 0.95f)
                               .i32("general.sampling.top_k", 20)
                               .build();
  const auto gguf = parse_gguf(std::as_bytes(std::span(file)), file.size(), "m.gguf");
  ASSERT_TRUE(gguf.ok());
  EXPECT_EQ(*generation_config_from_gguf(*gguf, "m.gguf"),
            (json{{"temperature", 0.6}, {"top_p", 0.95}, {"top_k", 20}}));
}

}  // namespace
}  // namespace gantry

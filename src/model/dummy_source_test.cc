#include "model/dummy_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "formats/test_files.h"
#include "model/config.h"
#include "tensor/convert.h"

namespace gantry {
namespace {

using ::gantry::testing::TempFolder;

constexpr const char* kConfig = R"({
  "architectures": ["DeepseekV3ForCausalLM"], "hidden_size": 256, "intermediate_size": 300, "num_hidden_layers": 2,
  "num_attention_heads": 4, "num_key_value_heads": 4, "q_lora_rank": 64, "kv_lora_rank": 64, "qk_nope_head_dim": 32,
  "qk_rope_head_dim": 16, "v_head_dim": 32, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1,
  "moe_intermediate_size": 64, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "vocab_size": 512,
  "max_position_embeddings": 512, "num_nextn_predict_layers": 1, "torch_dtype": "bfloat16",
  "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                          "weight_block_size": [128, 128]}})";

std::vector<std::byte> bytes_of(const WeightSource& source, const std::string& name) {
  const WeightInfo* info = source.find(name);
  EXPECT_NE(info, nullptr) << name;
  if (info == nullptr) return {};
  std::vector<std::byte> bytes(info->view.bytes());
  EXPECT_TRUE(source.read(*info, bytes).ok());
  return bytes;
}

double deviation(std::span<const float> values) {
  double sum = 0;
  for (const float v : values) sum += double{v} * v;
  return std::sqrt(sum / static_cast<double>(values.size()));
}

TEST(DummyWeights, HaveTheConfigurationsShapesAndTheSameValuesEachTime) {
  const TempFolder folder;
  folder.write("config.json", kConfig);
  const auto source = open_dummy_weights(folder.path()).value();
  const auto again = open_dummy_weights(folder.path()).value();
  ASSERT_GT(source->weights().size(), 50u);
  for (const WeightInfo& info : source->weights()) {
    EXPECT_EQ(bytes_of(*source, info.name), bytes_of(*again, info.name)) << info.name;
  }
  EXPECT_NE(bytes_of(*source, "model.layers.1.mlp.experts.0.up_proj.weight"),
            bytes_of(*source, "model.layers.1.mlp.experts.1.up_proj.weight"));
}

TEST(DummyWeights, ValuesAreThoseOfAnUntrainedModel) {
  const TempFolder folder;
  folder.write("config.json", kConfig);
  const auto source = open_dummy_weights(folder.path()).value();
  const auto values = [&](const std::string& name) {
    const std::vector<std::byte> bytes = bytes_of(*source, name);
    const WeightInfo& info = *source->find(name);
    std::vector<float> out(static_cast<size_t>(info.view.shape.elements()));
    dequantize({bytes.data(), info.view.dtype, info.view.shape}, 0, out);
    return out;
  };
  EXPECT_NEAR(deviation(values("model.embed_tokens.weight")), 0.02, 0.001);
  for (const float v : values("model.norm.weight")) EXPECT_EQ(v, 1);
  for (const float v : values("model.layers.1.mlp.gate.e_score_correction_bias")) EXPECT_EQ(v, 0);
  std::vector<float> fp8 = values("model.layers.0.self_attn.q_b_proj.weight");
  const float scale = values("model.layers.0.self_attn.q_b_proj.weight_scale_inv")[0];
  for (float& v : fp8) {
    ASSERT_TRUE(std::isfinite(v));
    v *= scale;
  }
  EXPECT_NEAR(deviation(fp8), 0.02, 0.002);
}

TEST(DummyWeights, NeedConfigJson) {
  const TempFolder folder;
  EXPECT_EQ(open_dummy_weights(folder.path()).status().code(), StatusCode::kNotFound);
  folder.write("config.json", R"({"architectures": ["GPT2LMHeadModel"]})");
  EXPECT_EQ(open_dummy_weights(folder.path()).status().code(), StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace gantry

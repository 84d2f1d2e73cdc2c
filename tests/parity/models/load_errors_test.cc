// What load_model() says of checkpoints whose tensors are not those that the configuration asks for, and what
// it takes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "formats/weight_source.h"
#include "model/model.h"
#include "random_checkpoint.h"
#include "sequences.h"

namespace gantry::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

json llama() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"torch_dtype", "float32"},
          {"hidden_size", 16},
          {"intermediate_size", 24},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 2},
          {"num_key_value_heads", 1},
          {"vocab_size", 32},
          {"max_position_embeddings", 128}};
}

json deepseek() {
  json config = llama();
  config.update({{"architectures", {"DeepseekV3ForCausalLM"}},
                 {"model_type", "deepseek_v3"},
                 {"num_key_value_heads", 2},
                 {"kv_lora_rank", 8},
                 {"q_lora_rank", 12},
                 {"qk_nope_head_dim", 6},
                 {"qk_rope_head_dim", 4},
                 {"v_head_dim", 10},
                 {"n_routed_experts", 4},
                 {"n_shared_experts", 1},
                 {"num_experts_per_tok", 2},
                 {"moe_intermediate_size", 8},
                 {"first_k_dense_replace", 1}});
  return config;
}

using Tensors = std::vector<RandomTensor>;

RandomTensor& tensor(Tensors& tensors, const std::string& name) {
  const auto it = std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.name == name; });
  EXPECT_NE(it, tensors.end()) << name;
  return *it;
}

RandomTensor zeros(const std::string& name, Shape shape, DType dtype = DType::kF32) {
  return {name, dtype, shape,
          std::vector<std::byte>(*bytes_of(dtype, static_cast<uint64_t>(shape.elements())))};
}

struct Loaded {
  std::unique_ptr<CheckpointFolder> folder;
  std::unique_ptr<WeightSource> source;
  std::unique_ptr<Model> model;
  Status status;
};

Loaded load(const json& config, const Tensors& tensors, ThreadPool& pool, LoadOptions options = {}) {
  Loaded loaded{
      .folder = std::make_unique<CheckpointFolder>(config, tensors), .source = {}, .model = {}, .status = {}};
  loaded.source = open_weights(loaded.folder->path()).value();
  options.backend = cpu_backend("auto").value();
  options.pool = &pool;
  options.rows_max = 64;
  options.logit_rows_max = 4;
  options.context_max = 64;
  Result<std::unique_ptr<Model>> model = load_model(*loaded.source, options);
  loaded.status = model.status();
  if (model.ok()) loaded.model = std::move(*model);
  return loaded;
}

Status refusal(const json& config, const std::function<void(Tensors&)>& change) {
  ThreadPool pool(1);
  Tensors tensors = random_tensors(config, 1);
  change(tensors);
  const Loaded loaded = load(config, tensors, pool);
  EXPECT_FALSE(loaded.status.ok());
  EXPECT_THAT(loaded.status.message(), HasSubstr(loaded.folder->path()));
  EXPECT_EQ(loaded.status.message().find('\n'), std::string::npos);
  return loaded.status;
}

void drop(Tensors& tensors, const std::string& name) {
  std::erase_if(tensors, [&](const RandomTensor& t) { return t.name == name; });
}

TEST(LoadModel, NamesMissingTensors) {
  const Status status =
      refusal(llama(), [](Tensors& t) { drop(t, "model.layers.1.self_attn.k_proj.weight"); });
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_THAT(status.message(),
              HasSubstr("tensor model.layers.1.self_attn.k_proj.weight is missing: want [8, 16]"));
  for (const char* name :
       {"model.embed_tokens.weight", "lm_head.weight", "model.norm.weight",
        "model.layers.1.mlp.experts.3.up_proj.weight", "model.layers.1.mlp.gate.weight",
        "model.layers.1.mlp.gate.e_score_correction_bias", "model.layers.0.self_attn.kv_b_proj.weight",
        "model.layers.1.mlp.shared_experts.down_proj.weight"}) {
    EXPECT_THAT(refusal(deepseek(), [&](Tensors& t) { drop(t, name); }).message(),
                HasSubstr(std::string("tensor ") + name + " is missing"));
  }
}

TEST(LoadModel, NamesMisshapenTensors) {
  const auto reshaped = [](const std::string& name, Shape shape) {
    return [name, shape](Tensors& t) { tensor(t, name) = zeros(name, shape); };
  };
  EXPECT_THAT(refusal(llama(), reshaped("model.layers.0.mlp.up_proj.weight", {24, 17})).message(),
              AllOf(HasSubstr("model.safetensors: tensor model.layers.0.mlp.up_proj.weight is [24, 17]"),
                    HasSubstr("want [24, 16]")));
  EXPECT_THAT(refusal(llama(), reshaped("model.norm.weight", {16, 1})).message(),
              HasSubstr("is [16, 1]: want [16]"));
  EXPECT_THAT(
      refusal(deepseek(), reshaped("model.layers.1.mlp.experts.2.down_proj.weight", {16, 9})).message(),
      HasSubstr("is [16, 9]: want [16, 8]"));
  EXPECT_THAT(refusal(deepseek(), reshaped("model.layers.0.self_attn.kv_b_proj.weight", {31, 8})).message(),
              HasSubstr("is [31, 8]: want [32, 8]"));
}

TEST(LoadModel, NamesTensorsThatItWouldNotUse) {
  const Status status =
      refusal(llama(), [](Tensors& t) { t.push_back(zeros("model.layers.0.self_attn.q_proj.bias", {16})); });
  EXPECT_EQ(status.code(), StatusCode::kUnimplemented);
  EXPECT_THAT(status.message(), HasSubstr("\"model.layers.0.self_attn.q_proj.bias\" [16] is not part of"));
  EXPECT_THAT(refusal(llama(), [](Tensors& t) { t.push_back(zeros("model.layers.2.odd\n", {1})); }).message(),
              HasSubstr("\"model.layers.2.odd\\x0a\""));
}

TEST(LoadModel, NamesDtypesThatNoOpReads) {
  EXPECT_THAT(refusal(llama(),
                      [](Tensors& t) {
                        tensor(t, "model.layers.0.self_attn.o_proj.weight") =
                            zeros("model.layers.0.self_attn.o_proj.weight", {16, 16}, DType::kI32);
                      })
                  .message(),
              HasSubstr("o_proj.weight is I32; supported: F32, F16, BF16"));
  EXPECT_THAT(refusal(deepseek(),
                      [](Tensors& t) {
                        tensor(t, "model.layers.1.mlp.experts.1.gate_proj.weight") =
                            zeros("model.layers.1.mlp.experts.1.gate_proj.weight", {8, 16}, DType::kF16);
                      })
                  .message(),
              HasSubstr("experts.1.gate_proj.weight is F16, that of expert 0 is F32"));
}

TEST(LoadModel, NamesFp8WithoutItsScalesOrValues) {
  json config = deepseek();
  config["quantization_config"] = {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}};
  const std::string expert = "model.layers.1.mlp.experts.2.up_proj";
  const std::string scales = expert + ".weight_scale_inv";
  EXPECT_THAT(refusal(config, [&](Tensors& t) { drop(t, scales); }).message(),
              HasSubstr("tensor " + scales + " is missing: want [1, 1]"));
  EXPECT_THAT(refusal(config, [&](Tensors& t) { tensor(t, scales) = zeros(scales, {1, 2}); }).message(),
              HasSubstr(scales + " is [1, 2]: want [1, 1]"));
  EXPECT_THAT(
      refusal(config, [&](Tensors& t) { tensor(t, scales) = zeros(scales, {1, 1}, DType::kBF16); }).message(),
      HasSubstr(scales + " is BF16: want F32"));
  EXPECT_THAT(
      refusal(config, [&](Tensors& t) { tensor(t, expert + ".weight").bytes[3] = std::byte{0x7f}; })
          .message(),
      AllOf(HasSubstr("model.layers.1.mlp.experts.2"), HasSubstr("F8_E4M3 weight [8, 16]: holds a NaN")));
  EXPECT_THAT(refusal(config,
                      [](Tensors& t) {
                        tensor(t, "model.embed_tokens.weight") =
                            zeros("model.embed_tokens.weight", {32, 16}, DType::kF8E4M3);
                      })
                  .message(),
              HasSubstr("model.embed_tokens.weight is F8_E4M3; supported: F32, F16, BF16 and"));
}

TEST(LoadModel, PassesOverWhatIsKnownToBeUnused) {
  ThreadPool pool(1);
  json config = deepseek();
  config["num_nextn_predict_layers"] = 1;
  config["tie_word_embeddings"] = true;
  Tensors tensors = random_tensors(config, 1);
  tensors.push_back(zeros("lm_head.weight", {32, 16}));
  tensors.push_back(zeros("model.layers.0.self_attn.rotary_emb.inv_freq", {2}));
  EXPECT_TRUE(load(config, tensors, pool).status.ok());
  tensors.push_back(zeros("model.layers.3.eh_proj.weight", {16, 32}));
  EXPECT_THAT(load(config, tensors, pool).status.message(), HasSubstr("model.layers.3.eh_proj.weight"));
}

TEST(LoadModel, NamesTheFolderOfABadConfiguration) {
  ThreadPool pool(1);
  json config = llama();
  const Tensors tensors = random_tensors(config, 1);
  config["num_key_value_heads"] = 3;
  const Loaded loaded = load(config, tensors, pool);
  EXPECT_EQ(loaded.status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(loaded.status.param(), "num_key_value_heads");
  EXPECT_THAT(loaded.status.message(), HasSubstr(loaded.folder->path() + ": num_attention_heads 2"));
}

TEST(LoadModel, ReportsProgressToTheLastByte) {
  ThreadPool pool(1);
  const Tensors tensors = random_tensors(deepseek(), 1);
  std::vector<uint64_t> done;
  uint64_t total = 0;
  LoadOptions options;
  options.on_progress = [&](uint64_t bytes, uint64_t all) {
    done.push_back(bytes);
    total = all;
  };
  const Loaded loaded = load(deepseek(), tensors, pool, options);
  ASSERT_TRUE(loaded.status.ok()) << loaded.status.message();
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  EXPECT_GT(done.size(), tensors.size());
  EXPECT_EQ(done.back(), total);
  EXPECT_EQ(total, loaded.source->total_bytes());
  EXPECT_GT(loaded.model->weight_bytes(), 0u);
}

// rope_freqs.weight holds one divisor per pair: all 2 is linear scaling by 2.
TEST(LoadModel, TakesRotaryDivisorsFromATensor) {
  ThreadPool pool(1);
  LoadOptions options;
  options.compute = Compute::kF32;
  options.kv_dtype = DType::kF32;
  Tensors tensors = random_tensors(llama(), 1);
  json linear = llama();
  linear["rope_scaling"] = {{"type", "linear"}, {"factor", 2.0}};
  const Loaded scaled = load(linear, tensors, pool, options);

  RandomTensor divisors = zeros("rope_freqs.weight", {4});
  const std::vector<float> twos(4, 2.0f);
  std::memcpy(divisors.bytes.data(), twos.data(), divisors.bytes.size());
  tensors.push_back(divisors);
  const Loaded divided = load(llama(), tensors, pool, options);
  ASSERT_TRUE(scaled.status.ok() && divided.status.ok()) << divided.status.message();

  const std::vector<std::vector<int32_t>> prompts{random_prompt(1, 20, 32)};
  const ChunkFn whole = [](size_t, int, int32_t left) { return left; };
  const Backend& backend = *cpu_backend("auto").value();
  EXPECT_EQ(run_alone(*scaled.model, backend, prompts, 4, whole)[0].logits,
            run_alone(*divided.model, backend, prompts, 4, whole)[0].logits);

  tensors.back() = zeros("rope_freqs.weight", {4});
  EXPECT_THAT(load(llama(), tensors, pool).status.message(),
              HasSubstr("rope_freqs.weight holds 0: want above 0"));
}

// llama.cpp's files permute the rows of q and k so that pairs lie together: same weights, same logits.
TEST(LoadModel, TakesInterleavedRotaryRows) {
  ThreadPool pool(1);
  LoadOptions options;
  options.compute = Compute::kF32;
  options.kv_dtype = DType::kF32;
  Tensors tensors = random_tensors(llama(), 1);
  const Loaded plain = load(llama(), tensors, pool, options);

  constexpr size_t kHeadDim = 8, kRowBytes = 16 * sizeof(float);
  for (RandomTensor& t : tensors) {
    if (!t.name.ends_with("q_proj.weight") && !t.name.ends_with("k_proj.weight")) continue;
    const std::vector<std::byte> original = t.bytes;
    for (size_t row = 0; row < original.size() / kRowBytes; ++row) {
      const size_t in_head = row % kHeadDim;
      const size_t from = row - in_head + (in_head % 2) * (kHeadDim / 2) + in_head / 2;
      std::memcpy(&t.bytes[row * kRowBytes], &original[from * kRowBytes], kRowBytes);
    }
  }
  json config = llama();
  config["gantry_rope_interleaved"] = true;
  const Loaded interleaved = load(config, tensors, pool, options);
  ASSERT_TRUE(plain.status.ok() && interleaved.status.ok()) << interleaved.status.message();

  const std::vector<std::vector<int32_t>> prompts{random_prompt(1, 20, 32)};
  const ChunkFn whole = [](size_t, int, int32_t left) { return left; };
  const Backend& backend = *cpu_backend("auto").value();
  const Trace a = run_alone(*plain.model, backend, prompts, 4, whole)[0];
  const Trace b = run_alone(*interleaved.model, backend, prompts, 4, whole)[0];
  EXPECT_EQ(a.tokens, b.tokens);
  for (size_t step = 0; step < a.logits.size(); ++step) {
    for (size_t i = 0; i < a.logits[step].size(); ++i) {
      EXPECT_NEAR(a.logits[step][i], b.logits[step][i], 1e-4f) << step << " " << i;
    }
  }
}

}  // namespace
}  // namespace gantry::testing

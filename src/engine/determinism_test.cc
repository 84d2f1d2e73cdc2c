// Invariant 5 through the whole engine, on a small random Llama and every backend: the same request gives the same
// tokens and logprobs, bit for bit, alone or with others, however its prompt is cut, cached or not.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>

#include "engine/local_replica.h"
#include "engine/testing/random_requests.h"

namespace gantry {
namespace {

constexpr int32_t kVocab = 260;

class RandomLlama : public WeightSource {
 public:
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

struct Conditions {
  int32_t batched_tokens;
  bool prefix_caching;
  int32_t kv_blocks;  // 0: ample
  int threads;
};

struct Served {
  Served(const WeightSource& source, const Backend* backend, const Conditions& conditions,
         const std::vector<GenerateRequest>& requests, bool one_by_one)
      : pool(conditions.threads) {
    ReplicaOptions options;
    options.model_id = "random-llama";
    options.backend = backend;
    options.pool = &pool;
    options.max_num_seqs = 16;
    options.max_num_batched_tokens = conditions.batched_tokens;
    options.prefix_caching = conditions.prefix_caching;
    if (conditions.kv_blocks > 0) {
      const KvLayout layer{DType::kF16, 2, 12, 12};
      const std::vector<KvLayout> layers(2, layer);
      options.kv_cache_bytes =
          KvStore::block_bytes(*backend, layers) * static_cast<uint64_t>(conditions.kv_blocks);
    }
    auto started = start_local_replica(source, options);
    EXPECT_TRUE(started.ok()) << started.status().message();
    client = std::move(started).value();
    client->set_sink(&collector);
    serve(*client, collector, requests, one_by_one);
    stats = client->stats();
    client->set_sink(nullptr);
  }
  ThreadPool pool;
  FrameCollector collector;
  std::unique_ptr<ReplicaClient> client;
  ReplicaStats stats;
};

TEST(Determinism, TheSameBitsWhateverElseRunsOnEveryBackend) {
  const RandomLlama source;
  std::mt19937_64 random(3);
  std::vector<GenerateRequest> requests;
  for (uint64_t id = 1; id <= 16; ++id) requests.push_back(random_request(id, kVocab, random));
  for (const Backend* backend : every_backend()) {
    SCOPED_TRACE(backend->name);
    Served alone(source, backend, {512, false, 0, 1}, requests, true);
    EXPECT_EQ(alone.stats.preemptions, 0);
    for (const Conditions& conditions :
         {Conditions{2048, true, 0, 2}, Conditions{33, true, 0, 1}, Conditions{96, true, 9, 2}}) {
      SCOPED_TRACE(conditions.batched_tokens);
      Served together(source, backend, conditions, requests, false);
      EXPECT_GT(together.stats.prefix_hits, 0);
      expect_same_answers(alone.collector, together.collector, requests);
    }
  }
}

}  // namespace
}  // namespace gantry

// Invariant 5 through the whole engine, on a small random Llama and every backend: the same request gives the same
// tokens and logprobs, bit for bit, alone or with others, however its prompt is cut, cached or not.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <random>

#include "base/log.h"
#include "engine/testing/served.h"

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

uint64_t cache_bytes(const Backend& backend, uint64_t blocks) {
  return blocks * KvStore::block_bytes(backend, std::vector(2, KvLayout{DType::kF16, 2, 12, 12}));
}

TEST(Determinism, TheSameBitsWhateverElseRunsOnEveryBackend) {
  const RandomLlama source;
  std::mt19937_64 random(3);
  std::vector<GenerateRequest> requests;
  for (uint64_t id = 1; id <= 16; ++id) requests.push_back(random_request(id, kVocab, random));
  for (const Backend* backend : every_backend()) {
    SCOPED_TRACE(backend->name);
    Served alone(source, backend, {.one_by_one = true}, requests);
    EXPECT_EQ(alone.stats.preemptions, 0);
    for (const Conditions& conditions :
         {Conditions{.batched_tokens = 2048, .prefix_caching = true, .threads = 2},
          Conditions{.batched_tokens = 33, .prefix_caching = true},
          Conditions{.batched_tokens = 96,
                     .prefix_caching = true,
                     .kv_cache_bytes = cache_bytes(*backend, 9),
                     .threads = 2}}) {
      SCOPED_TRACE(conditions.batched_tokens);
      Served together(source, backend, conditions, requests);
      EXPECT_GT(together.stats.prefix_hits, 0);
      expect_same_answers(alone.collector, together.collector, requests);
    }
  }
}

// GANTRY_DETERMINISM_REQUESTS=500 (`make determinism`) asks so many, and takes every limit of a chunk from one row to more
// than the longest prompt; otherwise a few of both.
TEST(Determinism, TheSameBitsUnderLoadForEveryChunkSize) {
  constexpr int32_t kLongestPrompt = 300;
  const char* asked = std::getenv("GANTRY_DETERMINISM_REQUESTS");
  const uint64_t count = asked != nullptr ? std::strtoull(asked, nullptr, 10) : 32;
  const int32_t stride = asked != nullptr ? 1 : 27;
  init_log("warning");  // one line for each of hundreds of replicas says nothing
  const RandomLlama source;
  const Backend* backend = cpu_backend("auto").value();
  const std::vector<GenerateRequest> requests = random_requests(count, kVocab, 9);
  Served alone(source, backend, {.one_by_one = true}, requests);
  EXPECT_EQ(alone.stats.preemptions, 0);

  ReplicaStats sum;
  const auto compare = [&](const Conditions& conditions, const std::vector<GenerateRequest>& some) {
    Served together(source, backend, conditions, some);
    expect_same_answers(alone.collector, together.collector, some);
    sum.generated_tokens += together.stats.generated_tokens;
    sum.preemptions += together.stats.preemptions;
    sum.prefix_hits += together.stats.prefix_hits;
  };
  const uint64_t tiny_cache = cache_bytes(*backend, 8);
  compare({.prefix_caching = true, .kv_cache_bytes = tiny_cache, .threads = 2}, requests);
  compare({.batched_tokens = 2048, .prefix_caching = true, .threads = 2}, requests);
  size_t next = 0;
  int32_t sizes = 0;
  for (int32_t chunk = 1; chunk <= kLongestPrompt + 2; chunk += stride, ++sizes) {
    SCOPED_TRACE(chunk);
    std::vector<GenerateRequest> some;
    for (int i = 0; i < 16; ++i, ++next) some.push_back(requests[next % requests.size()]);
    // By turns the whole step's limit, and that of prompts beside decodes.
    Conditions conditions{.prefix_caching = true, .kv_cache_bytes = tiny_cache};
    (chunk % 2 == 0 ? conditions.batched_tokens : conditions.max_prefill_beside_decodes) = chunk;
    compare(conditions, some);
  }
  EXPECT_GT(sum.preemptions, 0);
  EXPECT_GT(sum.prefix_hits, 0);
  std::printf(
      "%zu requests, %lld tokens alone; together %lld tokens under %d chunk limits, %lld preemptions, %lld "
      "prompt tokens "
      "from the cache: the same bits\n",
      requests.size(), static_cast<long long>(alone.stats.generated_tokens),
      static_cast<long long>(sum.generated_tokens), sizes, static_cast<long long>(sum.preemptions),
      static_cast<long long>(sum.prefix_hits));
}

}  // namespace
}  // namespace gantry

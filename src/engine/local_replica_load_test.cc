// What is refused before weights are read: at R1's size reading takes minutes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "engine/local_replica.h"
#include "formats/test_files.h"
#include "model/dummy_source.h"

namespace gantry {
namespace {

using ::testing::HasSubstr;

constexpr const char* kLlama = R"({
  "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
  "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 4096,
  "rms_norm_eps": 1e-5, "torch_dtype": "bfloat16"})";

// Another source's tensors; counts how often they are read.
class CountingSource : public WeightSource {
 public:
  explicit CountingSource(const WeightSource& source) : source_(source) {}
  const nlohmann::json& config() const override { return source_.config(); }
  const nlohmann::json& generation_config() const override { return source_.generation_config(); }
  const VocabSpec* vocab() const override { return source_.vocab(); }
  const std::string& path() const override { return source_.path(); }
  const std::vector<WeightInfo>& weights() const override { return source_.weights(); }
  const WeightInfo* find(std::string_view name) const override { return source_.find(name); }
  Status read_range(const WeightInfo& info, uint64_t offset, std::span<std::byte> out) const override {
    ++reads;
    return source_.read_range(info, offset, out);
  }
  mutable std::atomic<int> reads{0};

 private:
  const WeightSource& source_;
};

class ReplicaLoad : public ::testing::Test {
 protected:
  ReplicaLoad() {
    folder_.write("config.json", kLlama);
    dummy_ = open_dummy_weights(folder_.path()).value();
    options_.backend = cpu_backend("auto").value();
    options_.pool = &pool_;
    options_.max_num_seqs = 1;
    options_.max_num_batched_tokens = 64;
  }

  testing::TempFolder folder_;
  std::unique_ptr<WeightSource> dummy_;
  ThreadPool pool_{1};
  ReplicaOptions options_;
};

TEST_F(ReplicaLoad, ACacheTooSmallIsRefusedBeforeAnyWeightIsRead) {
  const CountingSource source(*dummy_);
  options_.max_model_len = 4096;
  options_.kv_cache_bytes = 64 << 10;
  Status status = start_local_replica(source, options_).status();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(status.param(), "max_model_len");
  EXPECT_THAT(status.message(), HasSubstr("one request of max_model_len 4096 needs"));
  options_.max_model_len = 5000;
  options_.kv_cache_bytes = 0;
  status = start_local_replica(source, options_).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(source.reads, 0);
  options_.max_model_len = 4096;
  EXPECT_TRUE(start_local_replica(source, options_).ok());
  EXPECT_GT(source.reads, 0);
}

// Before the ranks' processes are started: there is no command to start them with.
TEST_F(ReplicaLoad, ACacheTooSmallForOneRankIsRefusedBeforeRanksStart) {
  const CountingSource source(*dummy_);
  options_.max_model_len = 4096;
  options_.kv_cache_bytes = 128 << 10;
  options_.ranks = {.tensor = 2, .pipeline = 2};
  const Status status = start_local_replica(source, options_).status();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  // A rank has one of two layers and one of two KV heads: 2 x 16 values of 2 bytes a token, 64 blocks of 64 tokens.
  EXPECT_THAT(status.message(), HasSubstr("262144 bytes of KV cache are enough"));
  EXPECT_EQ(source.reads, 0);
}

// What weights and activations will take is counted before it is taken.
TEST_F(ReplicaLoad, AShareOfMemoryThatWeightsFillIsRefusedBeforeAnyIsRead) {
  const CountingSource source(*dummy_);
  options_.max_model_len = 4096;
  options_.memory_utilization = 1e-6;
  const Status status = start_local_replica(source, options_).status();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("of memory less"));
  EXPECT_EQ(source.reads, 0);
}

}  // namespace
}  // namespace gantry

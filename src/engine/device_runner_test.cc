// Tokens that the backend draws, with steps handed over ahead, are those of the sampler on the host. The reference
// backend stands in for a GPU: it draws by the book when a step is launched.
#include "runtime/device_runner.h"

#include <gtest/gtest.h>

#include "engine/engine_loop.h"
#include "engine/testing/random_llama.h"
#include "engine/testing/served.h"

namespace gantry {
namespace {

// A replica whose steps go to a DeviceRunner.
class OnDevice : public ReplicaClient {
 public:
  OnDevice(const WeightSource& source, const Backend& backend, int32_t batched_tokens, int32_t blocks)
      : model_(load_model(source, {.backend = &backend,
                                   .pool = &pool_,
                                   .rows_max = batched_tokens,
                                   .logit_rows_max = kLogitRows,
                                   .context_max = kContext,
                                   .slots = kSlots,
                                   .on_progress = {}})
                   .value()),
        kv_(KvStore::create(backend, model_->kv_layouts(), blocks).value()),
        runner_(*model_, *kv_, nullptr,
                {.slots = kSlots,
                 .rows_max = batched_tokens,
                 .logit_rows_max = kLogitRows,
                 .context_max = kContext}),
        info_{"device", kContext, RandomLlama::kVocab},
        loop_(runner_, scheduling(batched_tokens, blocks), RandomLlama::kVocab) {}

  void set_sink(FrameSink* sink) override { loop_.set_sink(sink); }
  Status submit(GenerateRequest request) override { return loop_.submit(std::move(request)); }
  void cancel(RequestId request, int32_t choice) override { loop_.cancel(request, choice); }
  void drain() override { loop_.drain(); }
  ReplicaStats stats() const override { return loop_.stats(); }
  const ReplicaInfo& info() const override { return info_; }

 private:
  static constexpr int32_t kSlots = 16, kLogitRows = 80, kContext = 512;
  static SchedulerOptions scheduling(int32_t batched_tokens, int32_t blocks) {
    SchedulerOptions options;
    options.kv_blocks = blocks;
    options.max_model_len = kContext;
    options.max_num_seqs = kSlots;
    options.max_num_batched_tokens = batched_tokens;
    options.logit_rows_max = kLogitRows;
    options.lookahead = true;
    options.prefix_caching = true;
    return options;
  }

  ThreadPool pool_{1};
  std::unique_ptr<Model> model_;
  std::unique_ptr<KvStore> kv_;
  DeviceRunner runner_;
  ReplicaInfo info_;
  EngineLoop loop_;
};

// By the book and by the sampler's approximation of exp() logprobs differ in their last digits.
void expect_same_tokens(FrameCollector& a, FrameCollector& b, const std::vector<GenerateRequest>& requests) {
  for (const GenerateRequest& r : requests) {
    for (int32_t c = 0; c < r.params.n; ++c) {
      const FrameCollector::Stream x = a.wait_for_end(r.id.value, c), y = b.wait_for_end(r.id.value, c);
      EXPECT_EQ(x.tokens, y.tokens) << r.id.value;
      EXPECT_EQ(x.last.finish, y.last.finish) << r.id.value;
      ASSERT_EQ(x.logprobs.size(), y.logprobs.size());
      for (size_t i = 0; i < x.logprobs.size(); ++i) EXPECT_NEAR(x.logprobs[i], y.logprobs[i], 1e-5);
      ASSERT_EQ(x.top.size(), y.top.size());
      for (size_t i = 0; i < x.top.size(); ++i) {
        ASSERT_EQ(x.top[i].size(), y.top[i].size());
        for (size_t t = 0; t < x.top[i].size(); ++t) {
          EXPECT_EQ(x.top[i][t].id, y.top[i][t].id);
          EXPECT_NEAR(x.top[i][t].logprob, y.top[i][t].logprob, 1e-5);
        }
      }
    }
  }
  const std::vector<PromptLogprobs> prompts = a.prompts(), twins = b.prompts();
  ASSERT_EQ(prompts.size(), twins.size());
  for (const PromptLogprobs& p : prompts) {
    const auto twin = std::find_if(twins.begin(), twins.end(),
                                   [&](const PromptLogprobs& other) { return other.request == p.request; });
    ASSERT_NE(twin, twins.end());
    ASSERT_EQ(p.tokens.size(), twin->tokens.size());
    for (size_t i = 0; i < p.tokens.size(); ++i) {
      EXPECT_EQ(p.tokens[i].id, twin->tokens[i].id);
      EXPECT_NEAR(p.tokens[i].logprob, twin->tokens[i].logprob, 1e-5);
    }
  }
}

TEST(DeviceRunner, GivesTheTokensOfTheHostsSampler) {
  const RandomLlama source;
  std::vector<GenerateRequest> requests = random_requests(24, RandomLlama::kVocab, 5);
  requests[3].params.logit_bias = {{9, 4.0f}, {100, -100.0f}};
  requests[4].params.frequency_penalty = 0.7f;
  const Backend* reference = cpu_backend("reference").value();
  Served served(source, reference, {}, requests);
  for (const auto& [batched_tokens, blocks] : {std::pair{512, 200}, {40, 200}, {512, 9}}) {
    SCOPED_TRACE(testing::Message() << batched_tokens << " rows, " << blocks << " blocks");
    OnDevice device(source, *reference, batched_tokens, blocks);
    FrameCollector collector;
    device.set_sink(&collector);
    serve(device, collector, requests, false);
    EXPECT_EQ(device.stats().preemptions > 0, blocks == 9);
    device.set_sink(nullptr);
    expect_same_tokens(collector, served.collector, requests);
  }
}

}  // namespace
}  // namespace gantry

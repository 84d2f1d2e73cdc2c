// Speculative tokens never change what a request gets: the same tokens and logprobs, bit for bit, for every number of
// drafts, whatever else runs, however prompts are cut, from the prefix cache or not, after preemption.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <map>
#include <set>

#include "drafting_checkpoint.h"
#include "engine/engine_loop.h"
#include "engine/testing/served.h"
#include "formats/weight_source.h"
#include "random_checkpoint.h"
#include "runtime/model_runner.h"
#include "tensor/convert.h"

namespace gantry::testing {
namespace {

using nlohmann::json;

// Of a cache with so many blocks, of the models above.
uint64_t cache_bytes(const WeightSource& source, const Backend& backend, uint64_t blocks) {
  const auto layers = source.config()["num_hidden_layers"].get<size_t>() + 1;
  return blocks * KvStore::block_bytes(backend, std::vector(layers, KvLayout{DType::kF16, 1, 24, 0}), 32);
}

std::vector<GenerateRequest> some_requests(uint64_t count) {
  return random_requests(count, kDraftingVocab, 5);
}

class DraftedText : public ::testing::TestWithParam<const char*> {
 protected:
  DraftedText()
      : folder_(is_copy() ? drafting_config(1, 1) : drafting_config(2, 1),
                is_copy() ? copying_tensors(3) : random_tensors(drafting_config(2, 1), 3)),
        source_(open_weights(folder_.path()).value()) {}
  static bool is_copy() { return std::string(GetParam()) == "copying"; }

  CheckpointFolder folder_;
  std::unique_ptr<WeightSource> source_;
};

TEST_P(DraftedText, IsTheSameForEveryNumberOfDrafts) {
  const std::vector<GenerateRequest> requests = some_requests(24);
  for (const Backend* backend : runnable_backends()) {
    SCOPED_TRACE(backend->name);
    Served plain(*source_, backend, {.one_by_one = true}, requests);
    EXPECT_EQ(plain.stats.drafts, 0);
    for (const Conditions& conditions :
         {Conditions{.drafts = 1, .one_by_one = true}, Conditions{.drafts = 1, .prefix_caching = true},
          Conditions{.drafts = 2, .batched_tokens = 33, .prefix_caching = true},
          Conditions{.drafts = 3,
                     .batched_tokens = 96,
                     .prefix_caching = true,
                     .kv_cache_bytes = cache_bytes(*source_, *backend, 7),
                     .max_model_len = 6 * limits::kKvBlockTokens,
                     .threads = 2},
          Conditions{.drafts = 3, .one_by_one = true}}) {
      SCOPED_TRACE(conditions.drafts);
      Served drafted(*source_, backend, conditions, requests);
      expect_same_answers(plain.collector, drafted.collector, requests);
      EXPECT_EQ(drafted.stats.generated_tokens, plain.stats.generated_tokens);
      EXPECT_GT(drafted.stats.drafts, 0);
      EXPECT_LE(drafted.stats.accepted_drafts[1], drafted.stats.accepted_drafts[0]);
      if (is_copy()) {
        EXPECT_GT(drafted.stats.accepted_drafts[0], drafted.stats.drafted_steps / 2);
        EXPECT_LT(drafted.stats.accepted_drafts[0], drafted.stats.drafted_steps);
      }
      EXPECT_EQ(drafted.stats.preemptions > 0, conditions.kv_cache_bytes > 0);
    }
  }
}

// The module's cache is exact too: not one draft differs because of what came from the prefix cache, of how a prompt
// was cut, or of who else ran.
TEST_P(DraftedText, DraftsDoNotDependOnTheCacheOrTheSchedule) {
  const std::vector<GenerateRequest> requests = some_requests(40);
  const Backend* backend = cpu_backend("auto").value();
  Served cold(*source_, backend, {.drafts = 3, .one_by_one = true}, requests);
  for (const Conditions& conditions :
       {Conditions{.drafts = 3, .prefix_caching = true, .one_by_one = true},
        Conditions{.drafts = 3, .batched_tokens = 37, .prefix_caching = true},
        Conditions{.drafts = 3, .batched_tokens = 2048, .prefix_caching = true, .threads = 2}}) {
    Served other(*source_, backend, conditions, requests);
    EXPECT_GT(other.stats.prefix_hits, 0);
    EXPECT_EQ(other.stats.preemptions, 0);
    for (const GenerateRequest& r : requests) {
      for (int32_t c = 0; c < r.params.n; ++c) {
        const FrameCollector::Stream a = cold.collector.wait_for_end(r.id.value, c);
        const FrameCollector::Stream b = other.collector.wait_for_end(r.id.value, c);
        EXPECT_EQ(a.accepted_drafts, b.accepted_drafts) << r.id.value;
        EXPECT_EQ(a.rejected_drafts, b.rejected_drafts) << r.id.value;
      }
    }
  }
}

// What stands between the loop and the runner, and may do wrong.
class Between : public StepExecutor {
 public:
  explicit Between(StepExecutor& executor) : executor_(executor) {}
  void submit(const StepPlan& plan) override { executor_.submit(plan); }
  Status collect(StepResult& result) override { return executor_.collect(result); }

 private:
  StepExecutor& executor_;
};

// A planted bug: every sixth time, a draft is emitted although the target drew another token.
class TakesWrongDrafts final : public Between {
 public:
  using Between::Between;
  void submit(const StepPlan& plan) override {
    StepPlan with_drafts = plan;
    for (const PlanRows& rows : plan.sequences) {
      for (int32_t i = 1; i < rows.sampled; ++i) {
        with_drafts.ids[static_cast<size_t>(rows.first_row + rows.rows - rows.sampled + i)] = kDraft;
      }
      if (rows.sampled > 1) drafted_.insert(rows.sequence.value);
    }
    Between::submit(with_drafts);
  }
  Status collect(StepResult& result) override {
    GANTRY_RETURN_IF_ERROR(Between::collect(result));
    for (const SequenceResult& sequence : result.sequences) {
      if (drafted_.erase(sequence.sequence.value) == 0 || ++seen_ % 6 != 0) continue;
      result.tokens[static_cast<size_t>(sequence.first_token)].id = kDraft;
    }
    return {};
  }

 private:
  static constexpr TokenId kDraft = 5;
  std::set<uint64_t> drafted_;
  int64_t seen_ = 0;
};

// The runner under a scheduler of any options, which a local replica does not offer.
struct Engine {
  Engine(const WeightSource& source, SchedulerOptions scheduling, bool planted = false) : pool(1) {
    const Backend* backend = cpu_backend("auto").value();
    scheduling.max_model_len = 512;
    scheduling.max_num_seqs = 16;
    scheduling.logit_rows_max = 128;
    model = load_model(source, {.backend = backend,
                                .pool = &pool,
                                .rows_max = scheduling.max_num_batched_tokens + 16,
                                .logit_rows_max = 128,
                                .context_max = 512,
                                .drafts = scheduling.drafts > 0,
                                .on_progress = {}})
                .value();
    kv = KvStore::create(*backend, model->kv_layouts(), scheduling.kv_blocks, model->kv_tail()).value();
    runner = std::make_unique<ModelRunner>(*model, *kv, pool, nullptr,
                                           ModelRunnerOptions{.slots = 16,
                                                              .rows_max = scheduling.max_num_batched_tokens,
                                                              .logit_rows_max = 128,
                                                              .context_max = 512,
                                                              .drafts = scheduling.drafts});
    between = planted ? std::make_unique<TakesWrongDrafts>(*runner) : std::make_unique<Between>(*runner);
    loop = std::make_unique<EngineLoop>(*between, scheduling, kDraftingVocab);
    loop->set_sink(&collector);
  }
  void serve(const std::vector<GenerateRequest>& requests) {
    for (const GenerateRequest& r : requests) EXPECT_TRUE(loop->submit(r).ok());
    for (const GenerateRequest& r : requests) {
      for (int32_t c = 0; c < r.params.n; ++c) collector.wait_for_end(r.id.value, c);
    }
  }

  ThreadPool pool;
  std::unique_ptr<Model> model;
  std::unique_ptr<KvStore> kv;
  std::unique_ptr<ModelRunner> runner;
  std::unique_ptr<Between> between;
  FrameCollector collector;
  std::unique_ptr<EngineLoop> loop;
};

TEST_P(DraftedText, IsTheSameWithPlansAhead) {
  const std::vector<GenerateRequest> requests = some_requests(24);
  Served plain(*source_, cpu_backend("auto").value(), {.one_by_one = true}, requests);
  for (const int32_t drafts : {0, 1, 3}) {
    for (const int32_t stages : {1, 3}) {
      for (const int32_t blocks : {7, 200}) {
        SCOPED_TRACE(drafts * 100 + stages * 10 + (blocks == 7 ? 1 : 0));
        Engine ahead(*source_, {.kv_blocks = blocks,
                                .max_num_batched_tokens = 40,
                                .pipeline_stages = stages,
                                .lookahead = true,
                                .drafts = drafts});
        ahead.serve(requests);
        expect_same_answers(plain.collector, ahead.collector, requests);
      }
    }
  }
}

// How far the second of three tokens, whose row is a draft's, is from its distribution: chi-square over what the first
// token was, as a normal deviate (Wilson and Hilferty 1931). The distribution is that of the logprobs themselves.
double deviation_of_second_tokens(const WeightSource& source, int32_t drafts, bool planted) {
  constexpr int32_t kTop = 4;
  Engine engine(source, {.kv_blocks = 200, .max_num_batched_tokens = 512, .drafts = drafts}, planted);
  std::vector<GenerateRequest> requests(32);
  for (size_t i = 0; i < requests.size(); ++i) {
    GenerateRequest& r = requests[i];
    r.id = RequestId{i + 1};
    r.prompt = {3, 1, 4, 1, 5, 9, 2, 6};
    r.params.n = limits::kChoicesMax;
    r.params.max_tokens = 3;
    r.params.seed = 1000 + i;
    r.params.top_k = kTop;
    r.params.logprobs = kTop;
  }
  engine.serve(requests);
  std::map<TokenId, std::map<TokenId, double>> expected, counts;
  for (const GenerateRequest& r : requests) {
    for (int32_t c = 0; c < r.params.n; ++c) {
      const FrameCollector::Stream stream = engine.collector.wait_for_end(r.id.value, c);
      double mass = 0;
      for (const TokenLogprob& top : stream.top[1]) mass += std::exp(static_cast<double>(top.logprob));
      for (const TokenLogprob& top : stream.top[1]) {
        expected[stream.tokens[0]][top.id] += std::exp(static_cast<double>(top.logprob)) / mass;
      }
      ++counts[stream.tokens[0]][stream.tokens[1]];
    }
  }
  double chi_square = 0, freedom = 0;
  for (const auto& [first, row] : expected) {
    EXPECT_EQ(row.size(), static_cast<size_t>(kTop));
    double unexpected = 0;
    for (const auto& [token, count] : counts[first]) unexpected += row.contains(token) ? 0 : count;
    chi_square += unexpected;
    for (const auto& [token, mean] : row) {
      const double off = counts[first][token] - mean;
      chi_square += off * off / mean;
    }
    freedom += kTop - 1;
  }
  const double spread = 2 / (9 * freedom);
  return (std::cbrt(chi_square / freedom) - (1 - spread)) / std::sqrt(spread);
}

TEST_P(DraftedText, FollowsTheTargetsDistribution) {
  for (const int32_t drafts : {0, 1, 2}) {
    const double deviation = deviation_of_second_tokens(*source_, drafts, false);
    std::printf("%d drafts: %.2f deviations\n", drafts, deviation);
    EXPECT_LT(deviation, 4) << drafts;
  }
  const double planted = deviation_of_second_tokens(*source_, 1, true);
  std::printf("planted bug: %.2f deviations\n", planted);
  EXPECT_GT(planted, 6);
}

INSTANTIATE_TEST_SUITE_P(Modules, DraftedText, ::testing::Values("random", "copying"),
                         [](const auto& test) { return test.param; });

TEST(Drafts, ACheckpointWithoutAModuleIsRefused) {
  ThreadPool pool(1);
  ReplicaOptions options;
  options.backend = cpu_backend("auto").value();
  options.pool = &pool;
  options.num_speculative_tokens = 1;
  const auto status_of = [&](const json& config, const std::vector<RandomTensor>& tensors) {
    const CheckpointFolder folder(config, tensors);
    return start_local_replica(*open_weights(folder.path()).value(), options).status();
  };
  // None is announced; one is announced, but the file does not hold it.
  for (const Status& status : {status_of(drafting_config(1, 0), random_tensors(drafting_config(1, 0), 1)),
                               status_of(drafting_config(1, 1), random_tensors(drafting_config(1, 0), 1))}) {
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(status.param(), "num_speculative_tokens");
    EXPECT_NE(status.message().find("no multi-token prediction layer"), std::string::npos)
        << status.message();
  }
  options.num_speculative_tokens = kDraftsMax + 1;
  EXPECT_EQ(status_of(drafting_config(1, 1), random_tensors(drafting_config(1, 1), 1)).param(),
            "num_speculative_tokens");
}

}  // namespace
}  // namespace gantry::testing

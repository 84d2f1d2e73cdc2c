// Drafts of a model that is split over ranks: for every number of drafts the same tokens and logprobs, bit for bit, as
// without, and one rank's tokens. The ranks are threads that get each plan as bytes, as a group's processes do.
#include <gtest/gtest.h>

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "drafting_checkpoint.h"
#include "engine/engine_loop.h"
#include "engine/testing/served.h"
#include "formats/weight_source.h"
#include "rank_threads.h"
#include "runtime/draft_ids.h"
#include "runtime/model_runner.h"
#include "runtime/step_codec.h"

namespace gantry::testing {
namespace {

constexpr int32_t kSlots = 16;
constexpr int32_t kRows = 40;
constexpr int32_t kLogitRows = 128;
constexpr int32_t kContext = 512;

// Blocks until something has come.
template <typename T>
class Queue {
 public:
  void push(T value) {
    {
      const std::lock_guard lock(mutex_);
      values_.push_back(std::move(value));
    }
    came_.notify_one();
  }
  T pop() {
    std::unique_lock lock(mutex_);
    came_.wait(lock, [&] { return !values_.empty(); });
    T value = std::move(values_.front());
    values_.pop_front();
    return value;
  }

 private:
  std::mutex mutex_;
  std::condition_variable came_;
  std::deque<T> values_;
};

struct Split {
  ParallelSizes sizes;
  int32_t drafts = 0;
  int32_t blocks = 200;
  Compute compute = Compute::kF32;
};

// As GroupExecutor, with threads for processes.
class SplitExecutor : public StepExecutor {
 public:
  SplitExecutor(const WeightSource& source, const Split& split)
      : source_(source),
        split_(split),
        draft_ids_(kSlots),
        plans_(static_cast<size_t>(split.sizes.ranks())),
        ranks_([this] { run_ranks(split_.sizes, [this](const RankGroups& groups) { run(groups); }); }) {}
  ~SplitExecutor() override {
    for (Queue<std::string>& plans : plans_) plans.push("");
    ranks_.join();
  }

  void submit(const StepPlan& plan) override {
    const StepPlan& named = draft_ids_.name_ids(plan);
    for (size_t rank = 0; rank < plans_.size(); ++rank) {
      plans_[rank].push(encode_plan(named, static_cast<int32_t>(rank) == sampling()));
    }
  }
  Status collect(StepResult& result) override {
    result = decode_result(results_.pop()).value();
    draft_ids_.take(result);
    return {};
  }

 private:
  int32_t sampling() const { return split_.sizes.ranks() - split_.sizes.tensor; }

  void run(const RankGroups& groups) {
    const Backend& backend = *cpu_backend("auto").value();
    ThreadPool pool(1);
    const bool last_stage = groups.rank >= sampling();
    const auto model =
        load_model(source_, {.backend = &backend,
                             .pool = &pool,
                             .compute = split_.compute,
                             .kv_dtype = split_.compute == Compute::kF32 ? DType::kF32 : DType::kF16,
                             .rows_max = kRows + kSlots,
                             .logit_rows_max = kLogitRows,
                             .context_max = kContext,
                             .drafts = split_.drafts > 0,
                             .on_progress = {},
                             .ranks = groups})
            .value();
    EXPECT_EQ(model->kv_tail() > 0, last_stage && split_.drafts > 0);
    const auto kv = KvStore::create(backend, model->kv_layouts(), split_.blocks, model->kv_tail()).value();
    ModelRunner runner(*model, *kv, pool, nullptr,
                       {.slots = kSlots,
                        .rows_max = kRows,
                        .logit_rows_max = kLogitRows,
                        .context_max = kContext,
                        .drafts = last_stage ? split_.drafts : 0,
                        .samples = groups.rank == sampling(),
                        .tensor = last_stage ? groups.tensor : nullptr});
    const PlanLimits limits{.slots = kSlots,
                            .rows = kRows,
                            .logit_rows = kLogitRows,
                            .context = kContext,
                            .kv_blocks = split_.blocks,
                            .vocab = kDraftingVocab,
                            .drafts = split_.drafts};
    StepResult result;
    for (;;) {
      const std::string bytes = plans_[static_cast<size_t>(groups.rank)].pop();
      if (bytes.empty()) return;
      runner.submit(decode_plan(bytes, limits).value());
      if (groups.rank != sampling()) continue;
      EXPECT_TRUE(runner.collect(result).ok());
      results_.push(encode_result(result));
    }
  }

  const WeightSource& source_;
  const Split split_;
  DraftIds draft_ids_;
  std::vector<Queue<std::string>> plans_;  // by rank; an empty one is the last
  Queue<std::string> results_;
  std::thread ranks_;
};

struct SplitEngine {
  SplitEngine(const WeightSource& source, const Split& split)
      : executor(source, split),
        loop(executor,
             {.kv_blocks = split.blocks,
              .max_model_len = kContext,
              .max_num_seqs = kSlots,
              .max_num_batched_tokens = kRows,
              .logit_rows_max = kLogitRows,
              .pipeline_stages = split.sizes.pipeline,
              .drafts = split.drafts},
             kDraftingVocab) {
    loop.set_sink(&collector);
  }
  void serve(const std::vector<GenerateRequest>& requests) {
    for (const GenerateRequest& r : requests) EXPECT_TRUE(loop.submit(r).ok());
    for (const GenerateRequest& r : requests) {
      for (int32_t c = 0; c < r.params.n; ++c) collector.wait_for_end(r.id.value, c);
    }
  }

  FrameCollector collector;
  SplitExecutor executor;
  EngineLoop loop;
};

void expect_same_tokens(FrameCollector& a, FrameCollector& b, const std::vector<GenerateRequest>& requests) {
  for (const GenerateRequest& r : requests) {
    for (int32_t c = 0; c < r.params.n; ++c) {
      EXPECT_EQ(a.wait_for_end(r.id.value, c).tokens, b.wait_for_end(r.id.value, c).tokens) << r.id.value;
    }
  }
}

class SplitDrafts : public ::testing::TestWithParam<const char*> {
 protected:
  SplitDrafts()
      : layers_(is_copy() ? 1 : 2),
        folder_(drafting_config(layers_, 1),
                is_copy() ? copying_tensors(3) : random_tensors(drafting_config(layers_, 1), 3)),
        source_(open_weights(folder_.path()).value()),
        requests_(random_requests(12, kDraftingVocab, 5)) {}
  static bool is_copy() { return std::string(GetParam()) == "copying"; }

  std::vector<ParallelSizes> splits() const {
    std::vector<ParallelSizes> out = {{2, 1, false}, {2, 1, true}};
    if (layers_ > 1) out.insert(out.end(), {{1, 2, false}, {2, 2, false}, {2, 2, true}});
    return out;
  }

  const int layers_;
  CheckpointFolder folder_;
  std::unique_ptr<WeightSource> source_;
  const std::vector<GenerateRequest> requests_;
};

TEST_P(SplitDrafts, TextIsTheSameForEveryNumberOfDraftsAndThatOfOneRank) {
  SplitEngine one(*source_, {.sizes = {}});
  one.serve(requests_);
  for (const ParallelSizes& sizes : splits()) {
    for (const int32_t drafts : {0, 1, 2, 3}) {
      SCOPED_TRACE("TP " + std::to_string(sizes.tensor) + " x PP " + std::to_string(sizes.pipeline) +
                   (sizes.expert_parallel ? ", experts whole, " : ", ") + std::to_string(drafts) + " drafts");
      SplitEngine split(*source_, {.sizes = sizes, .drafts = drafts, .blocks = drafts == 3 ? 9 : 200});
      split.serve(requests_);
      expect_same_tokens(one.collector, split.collector, requests_);
      if (sizes.tensor == 1) expect_same_answers(one.collector, split.collector, requests_);
      const ReplicaStats stats = split.loop.stats();
      EXPECT_EQ(stats.drafts > 0, drafts > 0);
      EXPECT_EQ(stats.preemptions > 0, drafts == 3);
      if (is_copy() && drafts > 0) {
        EXPECT_GT(stats.accepted_drafts[0], stats.drafted_steps / 2);
      }
    }
  }
}

// What a fast path computes is another model's text where the sums are cut, but still the same for every number of drafts.
TEST_P(SplitDrafts, TheFastPathsTextDoesNotDependOnDrafts) {
  for (const ParallelSizes& sizes : splits()) {
    SplitEngine plain(*source_, {.sizes = sizes, .compute = Compute::kAuto});
    plain.serve(requests_);
    for (const int32_t drafts : {1, 3}) {
      SplitEngine drafted(*source_, {.sizes = sizes, .drafts = drafts, .compute = Compute::kAuto});
      drafted.serve(requests_);
      expect_same_answers(plain.collector, drafted.collector, requests_);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Modules, SplitDrafts, ::testing::Values("random", "copying"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace gantry::testing

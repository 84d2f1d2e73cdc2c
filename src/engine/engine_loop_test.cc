#include "engine/engine_loop.h"

#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "base/clock.h"
#include "engine/testing/frame_collector.h"
#include "sched/testing/simulated_device.h"

namespace gantry {
namespace {

using namespace std::chrono_literals;

// A device whose steps the test may hold back.
class Executor : public StepExecutor {
 public:
  static constexpr int64_t kAll = int64_t{1} << 60;
  explicit Executor(const SchedulerOptions& o)
      : device_(o.kv_blocks, o.max_num_seqs, o.kv_blocks, o.drafts, 1) {}
  void submit(const StepPlan& plan) override { device_.submit(plan); }
  Status collect(StepResult& result) override {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return steps_ > 0; });
    if (fails_) return unavailable("rank 1 has ended");
    --steps_;
    device_.collect(result);
    EXPECT_EQ(device_.error(), "");
    return {};
  }
  void fail() {
    std::lock_guard lock(mutex_);
    fails_ = true;
  }
  // From now on that many steps may end.
  void allow(int64_t steps) {
    {
      std::lock_guard lock(mutex_);
      steps_ = steps;
    }
    wake_.notify_all();
  }

 private:
  SimulatedDevice device_;
  std::mutex mutex_;
  std::condition_variable wake_;
  int64_t steps_ = kAll;
  bool fails_ = false;
};

constexpr int64_t kVocab = 48;

SchedulerOptions options() {
  SchedulerOptions o;
  o.kv_blocks = 32;
  o.max_model_len = 1024;
  o.max_num_seqs = 8;
  o.max_num_batched_tokens = 128;
  o.logit_rows_max = 40;
  return o;
}

GenerateRequest request(uint64_t id, size_t prompt, int32_t max_tokens) {
  GenerateRequest r;
  r.id = RequestId{id};
  for (size_t i = 0; i < prompt; ++i) r.prompt.push_back(static_cast<TokenId>((id * 7 + i * i) % kVocab));
  r.params.max_tokens = max_tokens;
  r.params.seed = id;
  return r;
}

struct EngineLoopTest : testing::Test {
  ~EngineLoopTest() override { executor.allow(Executor::kAll); }
  void wait_until_empty() {
    const auto deadline = std::chrono::steady_clock::now() + 60s;
    while (loop.stats().kv_blocks_used != 0 || loop.stats().running + loop.stats().waiting != 0) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline);
      std::this_thread::yield();
    }
  }
  Executor executor{options()};
  FrameCollector collector;
  EngineLoop loop{executor, options(), kVocab};
  SimulatedModel model;

  void SetUp() override { loop.set_sink(&collector); }
};

TEST_F(EngineLoopTest, StreamsWhatTheModelSays) {
  const GenerateRequest r = request(1, 150, 40);
  ASSERT_TRUE(loop.submit(r).ok());
  const auto stream = collector.wait_for_end(1);
  EXPECT_EQ(stream.tokens, model.stream(r, 0, 40));
  EXPECT_EQ(stream.last.finish, FinishReason::kLength);
  wait_until_empty();
  EXPECT_EQ(loop.stats().generated_tokens, 40);
  EXPECT_EQ(loop.stats().prompt_tokens, 150);
}

TEST_F(EngineLoopTest, ChoicesShareThePromptAndDiffer) {
  GenerateRequest r = request(1, 200, 12);
  r.params.n = 5;
  ASSERT_TRUE(loop.submit(r).ok());
  for (int32_t choice = 0; choice < 5; ++choice) {
    const auto stream = collector.wait_for_end(1, choice);
    EXPECT_EQ(stream.tokens, model.stream(r, choice, 12)) << choice;
  }
  EXPECT_EQ(loop.stats().prefix_hits, 4 * 192);
}

TEST_F(EngineLoopTest, EndTokensEndAfterMinTokensAndAreNotText) {
  GenerateRequest r = request(1, 10, 40);
  const std::vector<TokenId> all = model.stream(r, 0, 40);
  r.params.eos_token_ids = {all[9]};
  size_t at = 0;
  while (all[at] != all[9]) ++at;
  ASSERT_TRUE(loop.submit(r).ok());
  const auto stream = collector.wait_for_end(1);
  EXPECT_EQ(stream.tokens, std::vector<TokenId>(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(at)));
  EXPECT_EQ(stream.last.finish, FinishReason::kStop);
  EXPECT_EQ(stream.last.stop_token, all[9]);
  EXPECT_EQ(stream.last.token, -1);

  r.id = RequestId{2};
  r.params.ignore_eos = true;
  ASSERT_TRUE(loop.submit(r).ok());
  EXPECT_EQ(collector.wait_for_end(2).tokens, all);
  r.id = RequestId{3};
  r.params.stop_token_ids = r.params.eos_token_ids;
  ASSERT_TRUE(loop.submit(r).ok());
  EXPECT_EQ(collector.wait_for_end(3).last.stop_token, all[9]);
}

TEST_F(EngineLoopTest, AResubmissionGoesOnWhereItWas) {
  GenerateRequest r = request(1, 70, 30);
  r.params.n = 3;
  const std::vector<TokenId> first = model.stream(r, 0, 30);
  const std::vector<TokenId> third = model.stream(r, 2, 30);
  r.epoch = 4;
  r.emitted = {{first.begin(), first.begin() + 11}, {}, third};
  r.finished = {false, true, false};
  // The collector expects indices from 0.
  struct Tail : FrameSink {
    void on_frame(StepFrame&& frame) override {
      std::lock_guard lock(mutex);
      events.insert(events.end(), frame.tokens.begin(), frame.tokens.end());
      changed.notify_all();
    }
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<TokenEvent> events;
  };
  Tail tail;
  loop.set_sink(&tail);
  ASSERT_TRUE(loop.submit(r).ok());
  std::unique_lock lock(tail.mutex);
  const auto of_choice = [&](int32_t choice) {
    std::vector<TokenEvent> out;
    for (const TokenEvent& e : tail.events) {
      if (e.choice == choice) out.push_back(e);
    }
    return out;
  };
  ASSERT_TRUE(tail.changed.wait_for(lock, 60s, [&] {
    return !of_choice(0).empty() && of_choice(0).back().finish == FinishReason::kLength &&
           !of_choice(2).empty();
  }));
  const auto events = of_choice(0);
  ASSERT_EQ(events.size(), 19u);
  for (size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i].index, static_cast<int32_t>(11 + i));
    EXPECT_EQ(events[i].token, first[11 + i]);
    EXPECT_EQ(events[i].epoch, 4u);
  }
  EXPECT_TRUE(of_choice(1).empty());
  ASSERT_EQ(of_choice(2).size(), 1u);  // all its tokens were there: only the end was missing
  EXPECT_EQ(of_choice(2)[0].finish, FinishReason::kLength);
  EXPECT_EQ(of_choice(2)[0].token, -1);
  lock.unlock();
  loop.set_sink(nullptr);
}

TEST_F(EngineLoopTest, EchoScoresThePromptOnceBeforeTheFirstToken) {
  GenerateRequest r = request(1, 150, 0);
  r.params.prompt_logprobs = 0;
  ASSERT_TRUE(loop.submit(r).ok());
  const auto stream = collector.wait_for_end(1);
  EXPECT_TRUE(stream.tokens.empty());
  EXPECT_EQ(stream.last.finish, FinishReason::kLength);
  ASSERT_EQ(collector.prompts().size(), 1u);
  const PromptLogprobs scores = collector.prompts()[0];
  ASSERT_EQ(scores.tokens.size(), 149u);
  for (size_t i = 0; i < scores.tokens.size(); ++i) {
    EXPECT_EQ(scores.tokens[i].id, r.prompt[i + 1]);
    EXPECT_EQ(scores.tokens[i].logprob, static_cast<float>(i + 1));
  }
}

TEST_F(EngineLoopTest, CancelFreesAndIsSilent) {
  executor.allow(3);
  ASSERT_TRUE(loop.submit(request(1, 100, 900)).ok());
  collector.wait_for_token(1);
  EXPECT_GT(loop.stats().kv_blocks_used, 0);
  loop.cancel(RequestId{1}, -1);
  loop.cancel(RequestId{99}, -1);
  executor.allow(Executor::kAll);
  wait_until_empty();
}

TEST_F(EngineLoopTest, DeadlinesEndRunningAndWaitingRequests) {
  GenerateRequest r = request(1, 10, 900);
  r.deadline_ns = monotonic_ns() + 20'000'000;
  r.params.n = 3;
  executor.allow(0);
  ASSERT_TRUE(loop.submit(r).ok());
  r.id = RequestId{2};
  ASSERT_TRUE(loop.submit(r).ok());
  while (monotonic_ns() < r.deadline_ns) std::this_thread::yield();
  executor.allow(Executor::kAll);
  for (const uint64_t id : {1u, 2u}) {
    for (int32_t choice = 0; choice < 3; ++choice) {
      const auto stream = collector.wait_for_end(id, choice);
      EXPECT_EQ(stream.last.finish, FinishReason::kCancelled);
      EXPECT_NE(stream.last.error.find("deadline"), std::string::npos);
    }
  }
  wait_until_empty();
}

TEST_F(EngineLoopTest, AFailedExecutorEndsEverything) {
  executor.allow(3);
  ASSERT_TRUE(loop.submit(request(1, 20, 40)).ok());
  ASSERT_TRUE(loop.submit(request(2, 20, 40)).ok());
  executor.fail();
  executor.allow(1);
  for (const uint64_t id : {1, 2}) {
    const auto stream = collector.wait_for_end(id);
    EXPECT_EQ(stream.last.finish, FinishReason::kError);
    EXPECT_EQ(stream.last.error, "the replica has failed");
  }
  EXPECT_EQ(loop.submit(request(3, 20, 4)).code(), StatusCode::kUnavailable);
}

TEST_F(EngineLoopTest, RefusesWhatCanNeverFitSayingWhatWould) {
  Status status = loop.submit(request(1, 1000, 100));
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(status.param(), "max_tokens");
  EXPECT_NE(status.message().find("max_tokens at most 24"), std::string::npos) << status.message();
  status = loop.submit(request(1, 1024, 1));
  EXPECT_EQ(status.param(), "prompt");
  EXPECT_NE(status.message().find("at most 1023"), std::string::npos) << status.message();
  EXPECT_EQ(loop.submit(request(1, 0, 1)).param(), "prompt");
  GenerateRequest r = request(1, 4, 1);
  r.prompt[2] = kVocab;
  EXPECT_EQ(loop.submit(r).param(), "prompt");
  r = request(1, 4, 1);
  r.params.temperature = 3;
  EXPECT_EQ(loop.submit(r).param(), "temperature");
  r = request(1, 4, 1);
  r.emitted = {{0, 0}};
  EXPECT_EQ(loop.submit(r).param(), "emitted");
}

TEST_F(EngineLoopTest, TheQueueIsBounded) {
  executor.allow(0);
  Status status;
  uint64_t id = 0;
  while (status.ok() && id < 2 * limits::kWaitingRequestsMax) status = loop.submit(request(++id, 4, 600));
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_GE(id, limits::kWaitingRequestsMax);
  EXPECT_LE(id, limits::kWaitingRequestsMax + 10);
  for (uint64_t i = 1; i < id; ++i) loop.cancel(RequestId{i}, -1);
  executor.allow(Executor::kAll);
  wait_until_empty();
  EXPECT_TRUE(loop.submit(request(id, 4, 1)).ok());
}

TEST_F(EngineLoopTest, WhatWasAdmittedBeforeIsNotRefused) {
  executor.allow(0);
  uint64_t id = 0;
  while (loop.submit(request(++id, 4, 1)).ok()) ASSERT_LT(id, 2 * limits::kWaitingRequestsMax);
  GenerateRequest r = request(id, 4, 1);
  r.admitted = true;
  EXPECT_TRUE(loop.submit(r).ok());
  executor.allow(Executor::kAll);
  EXPECT_EQ(collector.wait_for_end(id).tokens, model.stream(r, 0, 1));
}

TEST_F(EngineLoopTest, TellsWhatAStepTakesUpBeforeItRuns) {
  executor.allow(0);
  GenerateRequest r = request(3, 10, 2);
  r.params.n = 2;
  ASSERT_TRUE(loop.submit(r).ok());
  collector.wait_for_start(3);  // no step can end
  EXPECT_GT(loop.stats().step_running_ns, 0);
  executor.allow(Executor::kAll);
  collector.wait_for_end(3, 0);
  collector.wait_for_end(3, 1);
  wait_until_empty();
}

TEST_F(EngineLoopTest, DrainingRefusesAndFinishes) {
  ASSERT_TRUE(loop.submit(request(1, 10, 200)).ok());
  loop.drain();
  EXPECT_EQ(loop.submit(request(2, 10, 2)).code(), StatusCode::kUnavailable);
  EXPECT_EQ(collector.wait_for_end(1).tokens.size(), 200u);
}

TEST(EngineLoop, DestructionEndsWhatIsOpen) {
  constexpr uint64_t kRequests = 4000;
  Executor executor{options()};
  FrameCollector collector;
  {
    EngineLoop loop(executor, options(), kVocab);
    loop.set_sink(&collector);
    for (uint64_t id = 1; id <= kRequests; ++id) ASSERT_TRUE(loop.submit(request(id, 10, 900)).ok());
    collector.wait_for_token(1);
  }
  for (uint64_t id = 1; id <= kRequests; ++id) collector.wait_for_end(id);
  // More than can have been served in the meantime.
  EXPECT_EQ(collector.wait_for_end(kRequests).last.finish, FinishReason::kCancelled);
}

TEST_F(EngineLoopTest, AThousandRequestsWithRandomCancelsLeaveNothing) {
  std::mt19937_64 random(5);
  for (uint64_t id = 1; id <= 1000; ++id) {
    GenerateRequest r = request(id, 1 + random() % 200, 1 + static_cast<int32_t>(random() % 60));
    r.params.n = 1 + static_cast<int32_t>(random() % 3);
    ASSERT_TRUE(loop.submit(std::move(r)).ok());
    if (random() % 2 == 0) {
      loop.cancel(RequestId{1 + random() % id}, static_cast<int32_t>(random() % 4) - 1);
    }
  }
  wait_until_empty();
}

}  // namespace
}  // namespace gantry

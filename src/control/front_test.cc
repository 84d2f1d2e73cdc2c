#include "control/front.h"

#include <gtest/gtest.h>

#include "base/clock.h"
#include "base/limits.h"

namespace gantry {
namespace {

class FakeReplica : public ReplicaClient {
 public:
  void set_sink(FrameSink* s) override { sink = s; }
  Status submit(GenerateRequest request) override {
    if (!answer.ok()) return answer;
    submitted.push_back(std::move(request));
    return {};
  }
  void cancel(RequestId request, int32_t choice) override { cancelled.emplace_back(request, choice); }
  void drain() override {}
  ReplicaStats stats() const override { return {}; }
  const ReplicaInfo& info() const override { return info_; }

  FrameSink* sink = nullptr;
  Status answer;
  std::vector<GenerateRequest> submitted;
  std::vector<std::pair<RequestId, int32_t>> cancelled;

 private:
  ReplicaInfo info_;
};

struct Recorder : StreamSink {
  void on_prompt_logprobs(PromptLogprobs&&) override { ++prompts; }
  void on_token(TokenEvent&& event) override {
    tokens.push_back(event.token);
    if (event.finish == FinishReason::kError || event.finish == FinishReason::kCancelled)
      ends.push_back(event);
    if (on_each) on_each(event);
  }
  void on_refused(const Status& status) override { refusal = status; }
  int prompts = 0;
  std::vector<TokenId> tokens;
  std::vector<TokenEvent> ends;
  Status refusal;
  std::function<void(const TokenEvent&)> on_each;
};

TokenEvent token(RequestId id, int32_t choice, int32_t index, TokenId value,
                 FinishReason finish = FinishReason::kNone) {
  TokenEvent e;
  e.request = id;
  e.choice = choice;
  e.index = index;
  e.token = value;
  e.finish = finish;
  return e;
}

StepFrame frame(std::vector<TokenEvent> events) {
  StepFrame f;
  f.tokens = std::move(events);
  return f;
}

struct FrontTest : testing::Test {
  RequestId open(int32_t n = 1) {
    GenerateRequest request;
    request.id = front.next_id();
    request.prompt = {1};
    request.params.n = n;
    request.params.max_tokens = 4;
    const RequestId id = request.id;
    EXPECT_TRUE(front.open(std::move(request), recorder).ok());
    return id;
  }
  FakeReplica replica;
  Front front{replica};
  std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
};

TEST_F(FrontTest, HandsOnEachTokenOnceAndForgetsTheStreamAtItsEnd) {
  const RequestId id = open();
  replica.sink->on_frame(frame({token(id, 0, 0, 5), token(id, 0, 0, 5), token(id, 0, 2, 7)}));
  EXPECT_EQ(recorder->tokens, (std::vector<TokenId>{5}));
  replica.sink->on_frame(frame({token(id, 0, 1, 6, FinishReason::kLength), token(id, 0, 2, 7)}));
  EXPECT_EQ(recorder->tokens, (std::vector<TokenId>{5, 6}));
  EXPECT_EQ(front.open_streams(), 0u);
  EXPECT_EQ(recorder.use_count(), 1);
}

TEST_F(FrontTest, PromptLogprobsOnce) {
  const RequestId id = open();
  for (int i = 0; i < 2; ++i) {
    StepFrame f;
    f.prompts.resize(1);
    f.prompts[0].request = id;
    replica.sink->on_frame(std::move(f));
  }
  EXPECT_EQ(recorder->prompts, 1);
}

TEST_F(FrontTest, ClosingOneChoiceLeavesTheOther) {
  const RequestId id = open(2);
  front.close(id, 0);
  replica.sink->on_frame(frame({token(id, 0, 0, 5), token(id, 1, 0, 6)}));
  EXPECT_EQ(recorder->tokens, (std::vector<TokenId>{6}));
  EXPECT_EQ(replica.cancelled, (std::vector<std::pair<RequestId, int32_t>>{{id, 0}}));
  EXPECT_EQ(front.open_streams(), 1u);
  front.close(id, 1);
  EXPECT_EQ(front.open_streams(), 0u);
}

TEST_F(FrontTest, MayBeClosedFromWithinTheSink) {
  const RequestId id = open();
  recorder->on_each = [&](const TokenEvent& event) { front.close(event.request); };
  replica.sink->on_frame(frame({token(id, 0, 0, 5), token(id, 0, 1, 6)}));
  EXPECT_EQ(recorder->tokens, (std::vector<TokenId>{5}));
  EXPECT_EQ(front.open_streams(), 0u);
}

TEST_F(FrontTest, ARefusedRequestLeavesNothingBehind) {
  replica.answer = resource_exhausted("the queue is full");
  GenerateRequest request;
  request.id = front.next_id();
  EXPECT_EQ(front.open(std::move(request), recorder).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(front.open_streams(), 0u);
  EXPECT_EQ(recorder.use_count(), 1);
}

TEST(Front, LetsGoOfTheReplica) {
  FakeReplica replica;
  {
    Front front(replica);
    EXPECT_NE(replica.sink, nullptr);
  }
  EXPECT_EQ(replica.sink, nullptr);
}

// What FrontTest does, with several streams and replicas that die.
struct RecoveryTest : testing::Test {
  struct Open {
    RequestId id;
    std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
  };
  Open open(int64_t deadline_ns = 0, int32_t n = 1) {
    GenerateRequest request;
    Open stream{.id = front.next_id()};
    request.id = stream.id;
    request.prompt = {1, 2};
    request.params.n = n;
    request.params.max_tokens = 100;
    request.params.seed = stream.id.value;
    request.deadline_ns = deadline_ns;
    EXPECT_TRUE(front.open(std::move(request), stream.recorder).ok());
    return stream;
  }
  static void send(FakeReplica& replica, RequestId id, int32_t index, TokenId value, uint32_t epoch) {
    TokenEvent event = token(id, 0, index, value);
    event.epoch = epoch;
    replica.sink->on_frame(frame({event}));
  }
  static void start(FakeReplica& replica, std::vector<RequestId> ids) { replica.sink->on_started(ids); }
  static void lose(FakeReplica& replica, const Status& cause = internal_error("it crashed")) {
    replica.submitted.clear();
    replica.sink->on_lost(cause);
  }
  static std::vector<RequestId> submitted(const FakeReplica& replica) {
    std::vector<RequestId> ids;
    for (const GenerateRequest& request : replica.submitted) ids.push_back(request.id);
    return ids;
  }

  FakeReplica a;
  Front front{std::vector<ReplicaClient*>{&a}};
};

using Ids = std::vector<RequestId>;

TEST_F(RecoveryTest, StreamsGoOnWhereTheyWereOldestFirst) {
  const Open first = open();
  const Open second = open();
  send(a, second.id, 0, 20, 0);
  send(a, first.id, 0, 10, 0);
  send(a, first.id, 1, 11, 0);
  lose(a);
  EXPECT_TRUE(a.submitted.empty());
  a.sink->on_ready();
  ASSERT_EQ(submitted(a), (Ids{first.id, second.id}));
  const GenerateRequest& again = a.submitted[0];
  EXPECT_EQ(again.epoch, 1u);
  EXPECT_EQ(again.prompt, (std::vector<TokenId>{1, 2}));
  EXPECT_EQ(again.emitted, (std::vector<std::vector<TokenId>>{{10, 11}}));
  EXPECT_EQ(again.params.seed, first.id.value);
  EXPECT_TRUE(again.admitted);
  send(a, first.id, 2, 99, 0);  // of the worker that came back from the dead
  send(a, first.id, 2, 12, 1);
  EXPECT_EQ(first.recorder->tokens, (std::vector<TokenId>{10, 11, 12}));
}

TEST_F(RecoveryTest, WhatComesMeanwhileWaits) {
  lose(a);
  const Open stream = open();
  EXPECT_TRUE(a.submitted.empty());
  EXPECT_EQ(front.stats().waiting, 1);
  a.sink->on_ready();
  ASSERT_EQ(submitted(a), (Ids{stream.id}));
  EXPECT_TRUE(a.submitted[0].admitted);
  EXPECT_EQ(front.stats().waiting, 0);
}

TEST_F(RecoveryTest, WaitsUntilTheDeadlineOnly) {
  lose(a);
  const Open late = open(monotonic_ns() - 1, 2);
  const Open patient = open();
  a.sink->on_tick();
  ASSERT_EQ(late.recorder->ends.size(), 2u);
  EXPECT_EQ(late.recorder->ends[1].finish, FinishReason::kCancelled);
  EXPECT_EQ(late.recorder->ends[1].choice, 1);
  EXPECT_TRUE(patient.recorder->ends.empty());
  a.sink->on_ready();
  EXPECT_EQ(submitted(a), (Ids{patient.id}));
}

TEST_F(RecoveryTest, OnlySoManyWait) {
  lose(a);
  for (size_t i = 0; i < limits::kWaitingRequestsMax; ++i) open();
  GenerateRequest request;
  request.id = front.next_id();
  EXPECT_EQ(front.open(std::move(request), std::make_shared<Recorder>()).code(),
            StatusCode::kResourceExhausted);
}

TEST_F(RecoveryTest, AClosedStreamIsNotSubmittedAgain) {
  const Open stream = open();
  const Open choices = open(0, 2);
  lose(a);
  front.close(stream.id);
  front.close(choices.id, 1);
  a.sink->on_ready();
  ASSERT_EQ(submitted(a), (Ids{choices.id}));
  EXPECT_EQ(a.submitted[0].finished, (std::vector<bool>{false, true}));
  front.close(choices.id, 0);
  EXPECT_EQ(front.open_streams(), 0u);
}

TEST_F(RecoveryTest, ARequestThatKillsAgainAndAgainIsTriedAloneAndGivenUp) {
  const Open killer = open();
  const Open neighbour = open();
  const Open queued = open();
  for (int death = 0; death < 2; ++death) {
    start(a, {killer.id, neighbour.id});
    lose(a);
    a.sink->on_ready();
  }
  ASSERT_EQ(submitted(a), (Ids{killer.id}));  // alone: also what comes now waits
  const Open newcomer = open();
  EXPECT_EQ(submitted(a), (Ids{killer.id}));
  start(a, {killer.id});
  lose(a);
  ASSERT_EQ(killer.recorder->ends.size(), 1u);
  EXPECT_EQ(killer.recorder->ends[0].finish, FinishReason::kError);
  EXPECT_EQ(killer.recorder->ends[0].error,
            "the request ended the process that worked on it, again and again");

  a.sink->on_ready();
  ASSERT_EQ(submitted(a), (Ids{neighbour.id}));
  start(a, {neighbour.id});
  send(a, neighbour.id, 0, 5, a.submitted[0].epoch);
  EXPECT_EQ(neighbour.recorder->tokens, (std::vector<TokenId>{5}));
  EXPECT_EQ(submitted(a), (Ids{neighbour.id, queued.id, newcomer.id}));
  EXPECT_TRUE(neighbour.recorder->ends.empty());
}

TEST_F(RecoveryTest, OneTrialAfterTheOther) {
  const Open first = open();
  const Open second = open();
  for (int death = 0; death < 2; ++death) {
    start(a, {first.id, second.id});
    lose(a);
    a.sink->on_ready();
  }
  ASSERT_EQ(submitted(a), (Ids{first.id}));
  send(a, first.id, 0, 5, a.submitted[0].epoch);
  // It makes room for the next.
  EXPECT_EQ(a.cancelled, (std::vector<std::pair<RequestId, int32_t>>{{first.id, -1}}));
  ASSERT_EQ(submitted(a), (Ids{first.id, second.id}));
  send(a, second.id, 0, 6, a.submitted[1].epoch);
  ASSERT_EQ(submitted(a), (Ids{first.id, second.id, first.id}));
  EXPECT_EQ(a.submitted[2].emitted[0], (std::vector<TokenId>{5}));
}

TEST_F(RecoveryTest, TokensBetweenDeathsClearARequest) {
  const Open stream = open();
  for (int32_t death = 0; death < 10; ++death) {
    start(a, {stream.id});
    send(a, stream.id, death, 5, static_cast<uint32_t>(death));
    lose(a);
    a.sink->on_ready();
  }
  EXPECT_EQ(stream.recorder->tokens.size(), 10u);
  const Open other = open();
  EXPECT_EQ(submitted(a), (Ids{stream.id, other.id}));  // not alone
}

TEST_F(RecoveryTest, KillsFromOutsideAreHardlyBlamedOnARequest) {
  const Open stream = open();
  const Open other = open();
  const auto kill = [&](int times) {
    for (int death = 0; death < times; ++death) {
      start(a, {stream.id});
      lose(a, unavailable("killed"));
      a.sink->on_ready();
    }
  };
  kill(7);
  EXPECT_EQ(submitted(a), (Ids{stream.id, other.id}));
  kill(1);
  EXPECT_EQ(submitted(a), (Ids{stream.id}));
  kill(3);
  EXPECT_TRUE(stream.recorder->ends.empty());
  kill(1);
  EXPECT_EQ(stream.recorder->ends.size(), 1u);
  EXPECT_EQ(submitted(a), (Ids{other.id}));
}

TEST_F(RecoveryTest, ARefusalThatComesLaterReachesTheOwnerOnce) {
  const Open stream = open();
  a.sink->on_refused(stream.id, 7, invalid_argument("of another epoch"));
  EXPECT_TRUE(stream.recorder->refusal.ok());
  a.sink->on_refused(stream.id, 0, invalid_argument("too long", "prompt"));
  EXPECT_EQ(stream.recorder->refusal.param(), "prompt");
  EXPECT_EQ(front.open_streams(), 0u);
  a.sink->on_refused(stream.id, 0, invalid_argument("twice"));
  EXPECT_EQ(stream.recorder->refusal.param(), "prompt");
}

TEST(TwoReplicas, ShareStreamsAndTakeOverAtOnce) {
  FakeReplica a;
  FakeReplica b;
  Front front(std::vector<ReplicaClient*>{&a, &b});
  auto recorder = std::make_shared<Recorder>();
  for (int i = 0; i < 4; ++i) {
    GenerateRequest request;
    request.id = front.next_id();
    request.prompt = {1};
    request.params.max_tokens = 4;
    ASSERT_TRUE(front.open(std::move(request), recorder).ok());
  }
  EXPECT_EQ(a.submitted.size(), 2u);
  EXPECT_EQ(b.submitted.size(), 2u);
  a.sink->on_lost(unavailable("killed"));
  ASSERT_EQ(b.submitted.size(), 4u);
  EXPECT_EQ(b.submitted[2].epoch, 1u);
  // The dead one's late frames are of the epoch before.
  a.sink->on_frame(frame({token(b.submitted[2].id, 0, 0, 9)}));
  EXPECT_TRUE(recorder->tokens.empty());
}

}  // namespace
}  // namespace gantry

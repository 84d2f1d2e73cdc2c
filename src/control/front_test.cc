#include "control/front.h"

#include <gtest/gtest.h>

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
    if (on_each) on_each(event);
  }
  int prompts = 0;
  std::vector<TokenId> tokens;
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
    EXPECT_EQ(replica.sink, &front);
  }
  EXPECT_EQ(replica.sink, nullptr);
}

}  // namespace
}  // namespace gantry

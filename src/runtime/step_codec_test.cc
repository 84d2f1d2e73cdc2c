#include "runtime/step_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace gantry {
namespace {

using testing::HasSubstr;

constexpr PlanLimits kLimits{
    .slots = 8, .rows = 64, .logit_rows = 16, .context = 512, .kv_blocks = 40, .vocab = 100, .drafts = 1};

StepPlan plan() {
  auto request = std::make_shared<GenerateRequest>();
  request->id = RequestId{9};
  request->prompt = {4, 5, 6};
  request->params.max_tokens = 7;
  request->params.seed = ~uint64_t{3};
  request->params.logit_bias = {{3, -2.5f}, {8, 1}};
  request->params.stop_token_ids = {1, 2};
  StepPlan plan;
  plan.ticket = Ticket{77};
  plan.starts.push_back({SeqId{5}, 2, 1, request, {11, 12}});
  PlanRows rows;
  rows.sequence = SeqId{5};
  rows.slot = 2;
  rows.rows = 3;
  rows.first_position = 64;
  rows.new_blocks = 2;
  rows.table_index = 1;
  rows.sampled = 1;
  rows.reserved = 67;
  plan.sequences.push_back(rows);
  rows = {};
  rows.sequence = SeqId{6};
  rows.first_row = 3;
  rows.rows = 1;
  rows.sampled = 1;
  rows.reserved = 1;
  plan.sequences.push_back(rows);
  plan.ids = {4, 5, 6, 99};
  plan.blocks = {BlockId{39}, BlockId{0}};
  plan.logit_rows = 2;
  return plan;
}

TEST(StepCodec, PlansComeBackAsTheyWere) {
  const StepPlan before = plan();
  const std::string bytes = encode_plan(before, true);
  const Result<StepPlan> after = decode_plan(bytes, kLimits);
  ASSERT_TRUE(after.ok()) << after.status().message();
  EXPECT_EQ(encode_plan(*after, true), bytes);
  EXPECT_EQ(after->ids, before.ids);
  EXPECT_EQ(after->sequences[0].reserved, 67);
  ASSERT_EQ(after->starts.size(), 1u);
  EXPECT_EQ(after->starts[0].request->params.logit_bias, before.starts[0].request->params.logit_bias);
  EXPECT_EQ(after->starts[0].generated, before.starts[0].generated);
  // A decode of 64 sequences is one small message.
  EXPECT_LT(encode_plan(before, false).size() / before.sequences.size(), 100u);
  EXPECT_TRUE(decode_plan(encode_plan(before, false), kLimits)->starts.empty());
}

TEST(StepCodec, PlansThatDoNotFitTheRankAreRefused) {
  const auto refused = [](auto change) {
    StepPlan changed = plan();
    change(changed);
    return decode_plan(encode_plan(changed, true), kLimits).status();
  };
  EXPECT_THAT(refused([](StepPlan& p) { p.ids[1] = 100; }).message(), HasSubstr("token ids"));
  EXPECT_THAT(refused([](StepPlan& p) { p.ids[1] = kTokenOnDevice; }).message(), HasSubstr("token ids"));
  EXPECT_THAT(refused([](StepPlan& p) { p.blocks[0] = BlockId{40}; }).message(), HasSubstr("blocks"));
  EXPECT_THAT(refused([](StepPlan& p) { p.logit_rows = 3; }).message(), HasSubstr("rows of logits"));
  EXPECT_THAT(refused([](StepPlan& p) { p.starts[0].slot = 8; }).message(), HasSubstr("starts"));
  for (const auto change :
       {+[](PlanRows& r) { r.slot = -1; }, +[](PlanRows& r) { r.rows = 5; },
        +[](PlanRows& r) { r.first_row = 1; }, +[](PlanRows& r) { r.first_position = 510; },
        +[](PlanRows& r) { r.table_index = 7; }, +[](PlanRows& r) { r.new_blocks = 3; },
        +[](PlanRows& r) { r.sampled = 4; }, +[](PlanRows& r) { r.sampled = 3; },
        +[](PlanRows& r) { r.reserved = 513; }, +[](PlanRows& r) { r.scores = 1 << 30; },
        +[](PlanRows& r) { r.awaits = Ticket{1}; }}) {
    const Status status = refused([&](StepPlan& p) { change(p.sequences[0]); });
    EXPECT_EQ(status.code(), StatusCode::kDataLoss);
    EXPECT_THAT(status.message(), HasSubstr("rows of a sequence"));
  }
}

TEST(StepCodec, ResultsComeBackAsTheyWere) {
  StepResult before;
  before.ticket = Ticket{3};
  SequenceResult sequence;
  sequence.sequence = SeqId{5};
  sequence.accepted = 2;
  sequence.score_position = 4;
  before.sequences.push_back(sequence);
  sequence = {};
  sequence.sequence = SeqId{6};
  sequence.error = SampleError::kNothingLeft;
  before.sequences.push_back(sequence);
  before.tokens = {{8, -0.5f, 0, 1}, {9, -1.5f, 1, 1}};
  before.top = {{8, -0.5f}, {1, -2}};
  before.drafts = {4, 5};
  before.sequences[0].drafts = 2;
  const std::string bytes = encode_result(before);
  const Result<StepResult> after = decode_result(bytes);
  ASSERT_TRUE(after.ok()) << after.status().message();
  EXPECT_EQ(encode_result(*after), bytes);
  before.tokens[1].tops = 2;
  EXPECT_EQ(decode_result(encode_result(before)).status().code(), StatusCode::kDataLoss);
  before.tokens[1].tops = 1;
  before.sequences[1].first_draft = 1;
  before.sequences[1].drafts = 2;
  EXPECT_EQ(decode_result(encode_result(before)).status().code(), StatusCode::kDataLoss);
  before.sequences[1].drafts = 1;
  before.sequences[0].accepted = 3;
  EXPECT_EQ(decode_result(encode_result(before)).status().code(), StatusCode::kDataLoss);
}

// Any bytes are refused or decoded, never read past: run under the address sanitizer too.
TEST(StepCodec, AnyBytesAreRefusedOrDecoded) {
  std::mt19937 random(1);
  const std::string good = encode_plan(plan(), true);
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(decode_plan(std::string_view(good).substr(0, size), kLimits).ok()) << size;
  }
  EXPECT_FALSE(decode_plan(good + "x", kLimits).ok());
  int decoded = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = good;
    for (int flips = 1 + static_cast<int>(random() % 4); flips > 0; --flips) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    const Result<StepPlan> plan = decode_plan(bytes, kLimits);
    if (plan.ok()) ++decoded;
    (void)decode_result(bytes).ok();
  }
  EXPECT_GT(decoded, 0);
}

}  // namespace
}  // namespace gantry

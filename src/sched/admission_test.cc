#include "sched/admission.h"

#include <gtest/gtest.h>

#include <cmath>

namespace gantry {
namespace {

const QueueState kBusy{
    .requests = 5, .tokens = 3000, .free_slots = 0, .free_kv_tokens = 0, .tokens_per_s = 1000};
const QueueDemand kOne{.choices = 1, .tokens = 100, .kv_tokens = 80};

TEST(Admission, TheWaitIsWhatWaitsOverTheRate) {
  EXPECT_DOUBLE_EQ(expected_wait_s(kBusy, kOne), 3.0);
  QueueState roomy = kBusy;
  roomy.free_slots = 6;
  EXPECT_DOUBLE_EQ(expected_wait_s(roomy, kOne), 3.0) << "slots without blocks start nothing";
  roomy.free_kv_tokens = 3080;
  EXPECT_DOUBLE_EQ(expected_wait_s(roomy, kOne), 0);
  EXPECT_DOUBLE_EQ(expected_wait_s(roomy, {.choices = 2}), 3.0);
  EXPECT_DOUBLE_EQ(expected_wait_s({.requests = 5, .tokens = 3000}, kOne), 0) << "nothing is known yet";
}

TEST(Admission, EachLimitRefusesByName) {
  EXPECT_TRUE(admit_to_queue(kBusy, {}, kOne).ok());
  const auto refusal = [](const QueueLimits& limits, const QueueDemand& demand) {
    const Status status = admit_to_queue(kBusy, limits, demand);
    EXPECT_TRUE(status.ok() || status.code() == StatusCode::kResourceExhausted);
    return status.message();
  };
  EXPECT_EQ(refusal({.requests = 6}, kOne), "");
  EXPECT_EQ(refusal({.requests = 5}, kOne), "5 requests are waiting, no more are queued");
  EXPECT_EQ(refusal({.tokens = 3100}, kOne), "");
  EXPECT_EQ(refusal({.tokens = 3099}, kOne), "3000 tokens are waiting, at most 3099 are queued");
  EXPECT_EQ(refusal({.wait_s = 3}, kOne), "");
  EXPECT_EQ(refusal({.wait_s = 2.9}, kOne), "the queue takes 3.0 s, at most 2.9 s are allowed");
  QueueDemand late = kOne;
  late.deadline_s = 2;
  EXPECT_EQ(refusal({}, late), "the queue takes 3.0 s, the request's deadline is in 2.0 s");
}

TEST(Admission, APromptsTurnIsBoundedWithFreeSlotsToo) {
  const QueueState prefilling{
      .free_slots = 9, .free_kv_tokens = 100'000, .prompt_tokens = 500, .prompt_tokens_per_s = 1000};
  EXPECT_DOUBLE_EQ(expected_wait_s(prefilling, kOne), 0);
  EXPECT_DOUBLE_EQ(expected_prefill_wait_s(prefilling), 0.5);
  EXPECT_DOUBLE_EQ(expected_prefill_wait_s({.prompt_tokens = 500}), 0) << "nothing is known yet";
  EXPECT_TRUE(admit_to_queue(prefilling, {.wait_s = 0.1}, kOne).ok());
  EXPECT_TRUE(admit_to_queue(prefilling, {.prefill_wait_s = 0.5}, kOne).ok());
  EXPECT_EQ(admit_to_queue(prefilling, {.prefill_wait_s = 0.4}, kOne).message(),
            "a prompt's turn comes in 0.50 s, at most 0.40 s are allowed");
  EXPECT_FALSE(admit_to_queue(kBusy, {.prefill_wait_s = 2.9}, kOne).ok()) << "a slot's wait counts";
}

TEST(Admission, AnEmptyQueueTakesARequestOfAnySize) {
  EXPECT_TRUE(admit_to_queue({}, {.tokens = 10}, {.tokens = 1000}).ok());
}

TEST(ServiceRate, FollowsAChangeWithinItsMemory) {
  ServiceRate rate;
  EXPECT_EQ(rate.tokens_per_s(), 0);
  for (int i = 0; i < 100; ++i) rate.observe(0.1, 100);
  EXPECT_NEAR(rate.tokens_per_s(), 1000, 1e-6);
  for (int i = 0; i < 50; ++i) rate.observe(0.1, 10);
  EXPECT_NEAR(rate.tokens_per_s(), 100 + 900 * std::exp(-1.0), 50);
}

TEST(QueueDemand, ExpectsOutputsAsLongAsTheLastOnes) {
  OutputEstimate outputs;
  GenerateRequest request;
  request.prompt.resize(50);
  request.params.max_tokens = 1000;
  request.params.n = 2;
  EXPECT_EQ(queue_demand(request, outputs, 0).tokens, 50 + kOutputCost * 2000);
  for (int i = 0; i < 100; ++i) outputs.ended(10);
  const QueueDemand demand = queue_demand(request, outputs, 0);
  EXPECT_EQ(demand.tokens, 50 + kOutputCost * 20);
  EXPECT_EQ(demand.kv_tokens, 70);
  EXPECT_EQ(demand.choices, 2);
  EXPECT_EQ(demand.deadline_s, 0);
  request.deadline_ns = 3'000'000'000;
  EXPECT_DOUBLE_EQ(queue_demand(request, outputs, 1'000'000'000).deadline_s, 2.0);
}

}  // namespace
}  // namespace gantry

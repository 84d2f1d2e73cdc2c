// One tenant's flood, in the production scheduler and cache over a simulated device: it neither starves another nor
// takes its prefix.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "sched/fair_share.h"
#include "sched/scheduler.h"
#include "sched/testing/simulated_device.h"

namespace gantry {
namespace {

constexpr int32_t kBlocks = 40;
constexpr int32_t kSlots = 4;

class TenantsTest : public testing::Test {
 protected:
  static SchedulerOptions options() {
    SchedulerOptions o;
    o.kv_blocks = kBlocks;
    o.max_model_len = 1024;
    o.max_num_seqs = kSlots;
    o.max_num_batched_tokens = 256;
    return o;
  }

  // Prompts of one `text` begin with the same tokens, as far as they go.
  uint64_t add(const std::string& tenant, int32_t prompt, int32_t output, uint64_t text, int32_t n = 1) {
    GenerateRequest r;
    r.id = RequestId{++last_id_};
    r.tenant = tenant;
    for (int32_t i = 0; i < prompt; ++i) {
      r.prompt.push_back(
          static_cast<TokenId>(SimulatedModel::mix(text * 4096 + static_cast<uint64_t>(i)) % 48));
    }
    r.params.n = n;
    r.params.max_tokens = output;
    r.params.ignore_eos = true;
    scheduler_.add(std::move(r), 0, frame_);
    return last_id_;
  }

  void step() {
    ASSERT_TRUE(scheduler_.schedule(0, plan_));
    for (const SequenceStart& start : plan_.starts) started_.push_back(start.request->id.value);
    device_.submit(plan_);
    device_.collect(result_);
    scheduler_.advance(result_, 0, frame_);
    for (const TokenEvent& event : frame_.tokens) {
      if (event.index == 0) cached_[event.request.value] = event.cached_prompt_tokens;
      if (event.finish != FinishReason::kNone) ended_.insert(event.request.value);
    }
    frame_.tokens.clear();
    ASSERT_EQ(device_.error(), "");
  }
  void run_until_ended(uint64_t id) {
    while (!ended_.contains(id)) ASSERT_NO_FATAL_FAILURE(step());
  }
  // The part of the small one's prompt that it finds again.
  double hit_rate_beside_a_flood(int32_t flood_prompt, int32_t flood_output) {
    constexpr int32_t kPrompt = 8 * limits::kKvBlockTokens + 1;
    run_until_ended(add("small", kPrompt, 4, 7));
    int64_t hits = 0;
    int64_t alone = 0;
    uint64_t unique = 1000;
    for (int round = 0; round < 20; ++round) {
      for (int i = 0; i < 12; ++i) add("flood", flood_prompt, flood_output, unique++);
      while (scheduler_.has_open_requests() && !HasFatalFailure()) step();
      for (int i = 0; i < 8; ++i) add("flood", flood_prompt, flood_output, unique++);
      step();
      const uint64_t small = add("small", kPrompt, 4, 7);
      run_until_ended(small);
      hits += cached_.at(small);
      alone += kPrompt - 1;
    }
    return static_cast<double>(hits) / static_cast<double>(alone);
  }

  Scheduler scheduler_{options()};
  SimulatedDevice device_{kBlocks, kSlots, kBlocks, 0, 1};
  StepPlan plan_;
  StepResult result_;
  StepFrame frame_;
  uint64_t last_id_ = 0;
  std::vector<uint64_t> started_;
  std::map<uint64_t, int32_t> cached_;
  std::set<uint64_t> ended_;
};

TEST_F(TenantsTest, AFloodDoesNotStarveAnother) {
  for (uint64_t i = 0; i < 200; ++i) add("flood", 60, 20, 100 + i);
  step();
  for (int i = 0; i < 5; ++i) {
    const size_t started = started_.size();
    const uint64_t small = add("small", 60, 20, 1000 + static_cast<uint64_t>(i));
    run_until_ended(small);
    const auto at = std::find(started_.begin(), started_.end(), small);
    EXPECT_LE(at - started_.begin(), static_cast<std::ptrdiff_t>(started) + 2);
  }
}

TEST_F(TenantsTest, TwoFloodsShareAlike) {
  for (uint64_t i = 0; i < 60; ++i) add("a", 60, 20, 100 + i);
  for (uint64_t i = 0; i < 60; ++i) add("b", 60, 20, 300 + i);
  while (started_.size() < 40) ASSERT_NO_FATAL_FAILURE(step());
  const auto of_b =
      std::count_if(started_.begin(), started_.begin() + 40, [](uint64_t id) { return id > 60; });
  EXPECT_GE(of_b, 18);
  EXPECT_LE(of_b, 22);
}

// Between two requests with the same prefix the other tenant turns the cache over.
TEST_F(TenantsTest, AFloodDoesNotEvictAnothersPrefix) { EXPECT_GE(hit_rate_beside_a_flood(300, 4), 0.9); }

// Four of these at once would hold 36 of 40 blocks, and the prefix has eight. The flood gets three at a time, and what
// they hold counts: it has more than the small one, and gives up its own.
TEST_F(TenantsTest, AFloodThatCouldFillTheCacheLeavesAnothersPrefix) {
  EXPECT_GE(hit_rate_beside_a_flood(9 * limits::kKvBlockTokens - 60, 60), 0.95);
}

TEST_F(TenantsTest, ATenantAloneUsesTheWholeCache) {
  run_until_ended(add("other", 300, 4, 5));
  // Longer ago than the pool remembers.
  for (uint64_t i = 0; i < 60; ++i) run_until_ended(add("alone", 300, 4, 100 + i));
  for (uint64_t i = 0; i < 3; ++i) add("alone", 12 * limits::kKvBlockTokens, 40, 500 + i);
  int32_t together = 0;
  while (scheduler_.has_open_requests()) {
    ASSERT_NO_FATAL_FAILURE(step());
    together = std::max(together, scheduler_.stats().running);
  }
  EXPECT_EQ(together, 3) << "39 of 40 blocks";
}

// Four choices compute the prompt once, and its last, unfinished block each.
TEST_F(TenantsTest, TheChoicesOfARequestAreChargedOnePrompt) {
  std::map<int32_t, std::vector<uint64_t>> asked;  // by n
  uint64_t text = 1000;
  for (int round = 0; round < 600; ++round) {
    for (const int32_t n : {1, 4}) {
      std::vector<uint64_t>& of_n = asked[n];
      while (of_n.size() < 3 || ended_.contains(of_n[of_n.size() - 3])) {
        of_n.push_back(add(n == 1 ? "one" : "four", 5 * limits::kKvBlockTokens, 1, text++, n));
      }
    }
    ASSERT_NO_FATAL_FAILURE(step());
  }
  EXPECT_GT(asked[4].size(), 50u);
  EXPECT_NEAR(static_cast<double>(asked[4].size()) / static_cast<double>(asked[1].size()),
              322.0 / (322 + 3 * (2 + 64)), 0.1);
}

TEST(FairShare, AnIdleTenantSavesNothingUp) {
  FairShare share;
  EXPECT_EQ(share.arrive("a", 100), 0);
  EXPECT_EQ(share.arrive("a", 100), 100);
  share.take_up(100);
  EXPECT_EQ(share.arrive("b", 10), 100);
  EXPECT_EQ(share.arrive("b", 10), 110);
}

TEST(FairShare, ChargesWhatWasTaken) {
  FairShare share;
  share.arrive("a", 1000);
  share.leave("a", 1000, 10);
  EXPECT_EQ(share.arrive("a", 1000), 10);
  share.leave("a", 1000, 5000);
  EXPECT_EQ(share.arrive("a", 1), 5010);
}

TEST(FairShare, ForgetsTenantsThatOweNothing) {
  FairShare share;
  for (int i = 0; i < 20'000; ++i) {
    const std::string tenant = std::to_string(i);
    share.arrive(tenant, 100);
    share.leave(tenant, 100, 100);
    EXPECT_LE(share.tenants(), 4097u);
  }
  share.take_up(100);
  share.arrive("z", 0);
  share.leave("z", 0, 0);
  EXPECT_LE(share.tenants(), 4097u);
}

}  // namespace
}  // namespace gantry

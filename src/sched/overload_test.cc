// Admission under more traffic than there is capacity for: the production scheduler and gate before a device whose steps
// take as long as those of a small model on two cores, in virtual time.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <random>
#include <vector>

#include "sched/admission_gate.h"
#include "sched/testing/simulated_device.h"

namespace gantry {
namespace {

constexpr int32_t kPrompt = 128;
constexpr int32_t kOutput = 32;
constexpr int32_t kSlots = 64;
constexpr int32_t kBlocks = 4 * kSlots;
// SmolLM2 135M: 60 ms for a prompt of 128 tokens, 3.5 ms for one decode, 63 ms for 64 of them.
constexpr double kStepSeconds = 0.0025;
constexpr double kDecodeSeconds = 0.001;
constexpr double kPromptRowSeconds = 0.0005;

struct Traffic {
  double per_s = 0;
  double seconds = 60;
};
struct Outcome {
  std::vector<double> ttft_s;
  int64_t completed = 0;
  int64_t refused = 0;
  int64_t failed = 0;
  double completed_per_s = 0;  // after the first ten seconds, until no more arrive

  double ttft_p99_s() {
    std::sort(ttft_s.begin(), ttft_s.end());
    return ttft_s[ttft_s.size() * 99 / 100];
  }
};

class VirtualServer {
 public:
  explicit VirtualServer(const QueueLimits& limits) : gate_(limits, scheduler_) {}

  // Poisson arrivals; runs until all that was admitted has ended.
  Outcome serve(const Traffic& traffic) {
    Outcome outcome;
    std::exponential_distribution<double> gap(traffic.per_s);
    const double begin = now_s_;
    const double end = begin + traffic.seconds;
    next_arrival_s_ = begin + gap(random_);
    while (next_arrival_s_ < end || scheduler_.has_open_requests() || !inbox_.empty()) {
      if (!scheduler_.has_open_requests() && inbox_.empty()) {
        now_s_ = next_arrival_s_;
        gate_.resume(ns(now_s_));
      }
      step(outcome, [&] {
        next_arrival_s_ += gap(random_);
        if (next_arrival_s_ >= end) next_arrival_s_ = 1e18;
      });
      for (; !ended_at_.empty(); ended_at_.pop_front()) {
        if (ended_at_.front() > begin + 10 && ended_at_.front() <= end) outcome.completed_per_s += 1;
      }
    }
    outcome.completed_per_s /= traffic.seconds - 10;
    return outcome;
  }

  // So many at once.
  Outcome burst(int32_t requests) {
    Outcome outcome;
    next_arrival_s_ = now_s_;
    gate_.resume(ns(now_s_));
    do {
      step(outcome, [&] {
        if (--requests == 0) next_arrival_s_ = 1e18;
      });
    } while (scheduler_.has_open_requests() || !inbox_.empty());
    return outcome;
  }

 private:
  static int64_t ns(double s) { return static_cast<int64_t>(s * 1e9); }
  static SchedulerOptions options() {
    SchedulerOptions o;
    o.kv_blocks = kBlocks;
    o.max_model_len = kPrompt + kOutput + 1;
    o.max_num_seqs = kSlots;
    o.max_num_batched_tokens = 2048;
    o.chunk.rows_beside_decodes = 256;
    return o;
  }

  template <typename Next>
  void take_arrivals(Outcome& outcome, Next next) {
    while (next_arrival_s_ <= now_s_) {
      GenerateRequest r;
      r.id = RequestId{++last_id_};
      for (int32_t i = 0; i < kPrompt; ++i) r.prompt.push_back(static_cast<TokenId>(random_() % 48));
      r.params.max_tokens = kOutput;
      r.params.ignore_eos = true;
      if (gate_.enter(r, ns(next_arrival_s_)).ok()) {
        arrived_s_[last_id_] = next_arrival_s_;
        inbox_.push_back(std::move(r));
      } else {
        ++outcome.refused;
      }
      next();
    }
  }

  template <typename Next>
  void step(Outcome& outcome, Next next) {
    take_arrivals(outcome, next);
    gate_.hand_over();
    for (GenerateRequest& r : inbox_) scheduler_.add(std::move(r), ns(now_s_), frame_);
    inbox_.clear();
    if (!scheduler_.schedule(ns(now_s_), plan_)) return;
    double step_s = kStepSeconds;
    for (const PlanRows& rows : plan_.sequences) {
      step_s += rows.rows == 1 ? kDecodeSeconds : kPromptRowSeconds * rows.rows;
    }
    device_.submit(plan_);
    now_s_ += step_s;
    take_arrivals(outcome, next);  // while the step runs
    device_.collect(result_);
    scheduler_.advance(result_, ns(now_s_), frame_);
    gate_.observe(scheduler_, scheduler_.stats(), ns(now_s_));
    for (const TokenEvent& event : frame_.tokens) {
      if (event.index == 0) outcome.ttft_s.push_back(now_s_ - arrived_s_.at(event.request.value));
      if (event.finish == FinishReason::kNone) continue;
      ++(event.finish == FinishReason::kLength ? outcome.completed : outcome.failed);
      ended_at_.push_back(now_s_);
      arrived_s_.erase(event.request.value);
    }
    frame_.tokens.clear();
  }

  Scheduler scheduler_{options()};
  AdmissionGate gate_;
  SimulatedDevice device_{kBlocks, kSlots, kBlocks, 0, 1};
  StepPlan plan_;
  StepResult result_;
  StepFrame frame_;
  std::mt19937_64 random_{7};
  double now_s_ = 1;
  double next_arrival_s_ = 0;
  uint64_t last_id_ = 0;
  std::vector<GenerateRequest> inbox_;
  std::map<uint64_t, double> arrived_s_;
  std::deque<double> ended_at_;
};

// With an endless queue.
double peak_per_s() {
  VirtualServer server({});
  return server.serve({.per_s = 20, .seconds = 40}).completed_per_s;
}

TEST(Overload, WhatIsAdmittedStartsAboutAsFastAsBelowCapacity) {
  const double peak = peak_per_s();
  EXPECT_GT(peak, 8);
  VirtualServer server({.prefill_wait_s = 0.3});
  Outcome calm = server.serve({.per_s = 0.8 * peak});
  Outcome over = server.serve({.per_s = 10 * peak});
  EXPECT_GE(over.completed_per_s, 0.95 * peak);
  EXPECT_LE(over.ttft_p99_s(), 2 * calm.ttft_p99_s());
  EXPECT_EQ(over.failed, 0);
  EXPECT_GT(over.refused, 4000);
  EXPECT_LE(static_cast<double>(calm.refused), 0.05 * static_cast<double>(calm.completed));
  std::printf("peak %.2f/s; at 0.8: TTFT p99 %.3f s, %lld refused; at 10: %.2f/s, TTFT p99 %.3f s\n", peak,
              calm.ttft_p99_s(), static_cast<long long>(calm.refused), over.completed_per_s,
              over.ttft_p99_s());
}

// The bound on the queue alone does not do that: the queue is as long as it allows.
TEST(Overload, ABoundOnTheQueueBoundsTheWaitByAsMuch) {
  VirtualServer server({.wait_s = 10});
  server.serve({.per_s = 5, .seconds = 20});
  Outcome over = server.serve({.per_s = 100});
  EXPECT_GT(over.ttft_p99_s(), 5);
  EXPECT_LT(over.ttft_p99_s(), 15);
  EXPECT_EQ(over.failed, 0);
}

TEST(Overload, AnIdleServerTakesABurstThatFillsItsBatch) {
  VirtualServer server({.wait_s = 10});
  server.serve({.per_s = 5, .seconds = 20});
  const Outcome burst = server.burst(kSlots);
  EXPECT_EQ(burst.refused, 0);
  EXPECT_EQ(burst.completed, kSlots);
}

}  // namespace
}  // namespace gantry

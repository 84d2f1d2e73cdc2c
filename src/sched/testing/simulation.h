// Seeded random traffic over the production scheduler and cache, with every invariant checked at every step.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "sched/scheduler.h"
#include "sched/testing/scheduler_peer.h"
#include "sched/testing/simulated_device.h"

namespace gantry {

struct SimulationOptions {
  SchedulerOptions scheduler;
  int32_t requests = 40;
  int32_t prompt_max = 200;
  int32_t output_max = 40;
  int32_t arrivals_per_step = 3;  // at most
  int32_t cancel_percent = 20;    // of requests
  int32_t deadline_percent = 5;
  int32_t echo_percent = 10;
  int32_t resubmit_percent = 10;
  int32_t shared_prefix_percent = 40;
};

// A random configuration: tiny and ample caches, budgets from one row, pipelines of depth 1 to 4, lookahead
// and drafts on and off.
SimulationOptions random_simulation(uint64_t seed);

class Simulation {
 public:
  // Runs once per step before planning, when there is something to spoil; returns true when it has done its
  // deed.
  using Fault = std::function<bool(SchedulerPeer&)>;

  Simulation(const SimulationOptions& options, uint64_t seed);
  // Runs until all traffic is served. Empty if every invariant held, else the first that did not.
  std::string run(const Fault& fault = {});
  int64_t steps() const { return steps_; }
  ReplicaStats stats() const { return scheduler_.stats(); }
  // Sequences that were preempted, or ended or cancelled, while plans in flight still wrote for them.
  int64_t preempted_in_flight() const { return static_cast<int64_t>(preempted_in_flight_.size()); }
  int64_t ended_in_flight() const { return static_cast<int64_t>(ended_in_flight_.size()); }
  // Of all events, in order: equal for equal seeds.
  uint64_t digest() const { return digest_; }

 private:
  struct Stream {
    GenerateRequest request;
    std::vector<std::vector<TokenId>> expected;  // per choice, all max_tokens of them
    std::vector<std::vector<TokenId>> received;
    std::vector<FinishReason> finish;
    bool cancelled = false;
    bool scored = false;            // the newest epoch's prompt logprobs came
    bool scores_committed = false;  // some epoch's did: what the client needs
  };

  // Of a block.
  struct Holders {
    int32_t count = 0;
    const Sequence* first = nullptr;
    size_t index = 0;  // of the block in its table
  };

  void fail(const std::string& what);
  void arrive();
  GenerateRequest random_request();
  void cancel_some();
  void step();
  void collect_oldest();
  void take_frame();
  void check_event(const TokenEvent& event);
  void check_plan(const StepPlan& plan);
  void check_books();
  void check_order();

  SimulationOptions options_;
  std::mt19937_64 random_;
  Scheduler scheduler_;
  SchedulerPeer peer_;
  SimulatedDevice device_;
  SimulatedModel model_;
  std::map<uint64_t, Stream> streams_;
  std::map<uint64_t, std::vector<BlockId>> touched_;             // by ticket in flight
  std::map<uint64_t, int64_t> last_planned_;                     // by running sequence: step
  std::set<std::pair<uint64_t, uint32_t>> preempted_in_flight_;  // sequence and run
  std::set<uint64_t> ended_in_flight_;
  std::vector<TokenId> shared_prefix_;
  std::vector<std::pair<SeqId, uint32_t>> ran_before_;  // the plan: sequence and run
  // Scratch of the checks.
  std::vector<SeqId> planned_;
  std::vector<Holders> holders_;  // by block
  std::vector<char> slot_held_;
  StepPlan plan_;
  StepResult result_;
  StepFrame frame_;
  uint64_t next_id_ = 1;
  int64_t now_ns_ = 1;
  int64_t steps_ = 0;
  uint64_t digest_ = 0;
  std::string error_;
};

}  // namespace gantry

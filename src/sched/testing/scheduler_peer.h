// The scheduler's inside, for tests: to check its books, and to plant faults that the checks must find.
#pragma once

#include "sched/scheduler.h"

namespace gantry {

struct SchedulerPeer {
  Scheduler& scheduler;

  KvLedger& kv() { return scheduler.kv_; }
  BlockPool& pool() { return scheduler.kv_.pool_; }
  int32_t& promised() { return scheduler.kv_.promised_; }
  std::vector<Sequence*>& running() { return scheduler.running_; }
  std::vector<Sequence*>& waiting() { return scheduler.waiting_; }
  std::vector<int32_t>& free_slots() { return scheduler.free_slots_; }
  const SchedulerOptions& options() { return scheduler.options_; }
  bool waits_for_sibling(const Sequence& sequence) { return scheduler.waits_for_sibling(sequence); }

  // Everything that is not finished, and what is finished but still in flight.
  template <typename Visit>
  void each_sequence(Visit visit) {
    for (const auto& [id, request] : scheduler.requests_) {
      for (const auto& sequence : request->choices) {
        if (sequence) visit(*sequence);
      }
    }
    for (const auto& request : scheduler.leaving_) {
      for (const auto& sequence : request->choices) {
        if (sequence) visit(*sequence);
      }
    }
  }
};

}  // namespace gantry

// The ids of draft tokens, for ranks that do not draft: a plan leaves open what the draft module said of the tokens after a
// sequence's last, and the result of the ticket that sampled that token tells.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "sched/step_plan.h"

namespace gantry {

class DraftIds {
 public:
  explicit DraftIds(int32_t slots) : drafts_(static_cast<size_t>(slots)) {}

  // The plan with every id named. Plans in the order of submission; they await nothing: the results of the tickets that
  // sampled their sequences' last tokens have been taken.
  const StepPlan& name_ids(const StepPlan& plan);
  // Results in the order of their plans.
  void take(const StepResult& result);

 private:
  std::vector<std::vector<TokenId>> drafts_;    // by slot
  std::deque<std::vector<int32_t>> in_flight_;  // slots of the sequences that have a result, by plan
  std::vector<std::vector<int32_t>> spare_;
  StepPlan named_;
};

}  // namespace gantry

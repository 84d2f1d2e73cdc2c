// What the engine runs plans on: this process's ranks, or a group of worker processes.
#pragma once

#include "base/status.h"
#include "sched/step_plan.h"

namespace gantry {

class StepExecutor {
 public:
  virtual ~StepExecutor() = default;
  // Hands over the next ticket. May run it at once or later; plans run in the order of submission.
  virtual void submit(const StepPlan& plan) = 0;
  // Waits for the oldest ticket that was not collected. An error (kUnavailable: which rank, why) is the executor's end:
  // it gives no result any more.
  virtual Status collect(StepResult& result) = 0;
};

}  // namespace gantry

#include "sched/step_plan.h"

namespace gantry {

void StepPlan::clear() {
  ticket = {};
  starts.clear();
  sequences.clear();
  ids.clear();
  blocks.clear();
  logit_rows = 0;
}

void StepResult::clear() {
  ticket = {};
  sequences.clear();
  tokens.clear();
  scores.clear();
  top.clear();
  drafts.clear();
}

}  // namespace gantry

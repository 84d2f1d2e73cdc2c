// Plans and results as bytes, between the ranks of a replica.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "sched/step_plan.h"

namespace gantry {

// What a rank has been set up for.
struct PlanLimits {
  int32_t slots = 0;
  int32_t rows = 0;
  int32_t logit_rows = 0;
  int32_t context = 0;
  int32_t kv_blocks = 0;
  int64_t vocab = 0;
  int32_t drafts = 0;
};

// with_starts: for the rank that samples; the others need no more of a sequence than its rows.
std::string encode_plan(const StepPlan& plan, bool with_starts);
// kDataLoss unless the bytes are one whole plan within the limits: its rows follow each other, and every slot, id, block
// and position exists. Plans of ranks name their tokens: they await nothing.
Result<StepPlan> decode_plan(std::string_view bytes, const PlanLimits& limits);

std::string encode_result(const StepResult& result);
// kDataLoss unless the bytes are one whole result, whose parts lie within its lists.
Result<StepResult> decode_result(std::string_view bytes);

}  // namespace gantry

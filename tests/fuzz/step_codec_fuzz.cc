// What the ranks of a replica send each other about a step: whatever comes is a plan that fits the rank, a result whose
// parts lie within it, or an error.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "runtime/rank_messages.h"
#include "runtime/step_codec.h"

namespace {

constexpr gantry::PlanLimits kLimits{
    .slots = 8, .rows = 64, .logit_rows = 16, .context = 512, .kv_blocks = 40, .vocab = 1000, .drafts = 3};

void check(const gantry::StepPlan& plan) {
  size_t rows = 0;
  for (const gantry::PlanRows& sequence : plan.sequences) {
    GANTRY_CHECK(sequence.slot >= 0 && sequence.slot < kLimits.slots &&
                 sequence.sampled <= 1 + kLimits.drafts);
    GANTRY_CHECK(sequence.first_position >= 0 && sequence.first_position + sequence.rows <= kLimits.context);
    rows += static_cast<size_t>(sequence.rows);
  }
  GANTRY_CHECK(rows == plan.ids.size() && rows <= static_cast<size_t>(kLimits.rows));
  for (const gantry::BlockId block : plan.blocks) GANTRY_CHECK(block.value < kLimits.kv_blocks);
  for (const gantry::SequenceStart& start : plan.starts) GANTRY_CHECK(start.request != nullptr);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  if (const auto plan = gantry::decode_plan(input, kLimits); plan.ok()) {
    check(*plan);
    GANTRY_CHECK(gantry::decode_plan(gantry::encode_plan(*plan, true), kLimits).ok());
  }
  if (const auto result = gantry::decode_result(input); result.ok()) {
    for (const gantry::SequenceResult& sequence : result->sequences) {
      GANTRY_CHECK(static_cast<size_t>(sequence.first_draft + sequence.drafts) <= result->drafts.size());
    }
    GANTRY_CHECK(gantry::encode_result(*result) == input);
  }
  (void)gantry::decode_setup(input).ok();
  (void)gantry::decode_loaded(input).ok();
  (void)gantry::decode_begin(input).ok();
  (void)gantry::decode_failure(input).ok();
  return 0;
}

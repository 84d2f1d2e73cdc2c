#include "runtime/draft_ids.h"

#include <utility>

#include "base/check.h"

namespace gantry {

const StepPlan& DraftIds::name_ids(const StepPlan& plan) {
  named_ = plan;
  std::vector<int32_t> slots;
  if (!spare_.empty()) {
    slots = std::move(spare_.back());
    spare_.pop_back();
    slots.clear();
  }
  for (const PlanRows& rows : plan.sequences) {
    if (rows.sampled + rows.scores > 0) slots.push_back(rows.slot);
    const std::vector<TokenId>& drafts = drafts_[static_cast<size_t>(rows.slot)];
    for (int32_t i = 0; i < rows.rows; ++i) {
      TokenId& id = named_.ids[static_cast<size_t>(rows.first_row + i)];
      if (id != kTokenOnDevice) continue;
      // The first row has the last token itself.
      GANTRY_CHECK(i > 0 && static_cast<size_t>(i) <= drafts.size()) << "row " << i << " has no draft";
      id = drafts[static_cast<size_t>(i - 1)];
    }
  }
  in_flight_.push_back(std::move(slots));
  return named_;
}

void DraftIds::take(const StepResult& result) {
  GANTRY_CHECK(!in_flight_.empty() && in_flight_.front().size() == result.sequences.size())
      << "a result of another plan";
  for (size_t i = 0; i < result.sequences.size(); ++i) {
    const SequenceResult& sequence = result.sequences[i];
    const auto first = result.drafts.begin() + sequence.first_draft;
    drafts_[static_cast<size_t>(in_flight_.front()[i])].assign(first, first + sequence.drafts);
  }
  spare_.push_back(std::move(in_flight_.front()));
  in_flight_.pop_front();
}

}  // namespace gantry

#include "runtime/draft_ids.h"

#include <gtest/gtest.h>

namespace gantry {
namespace {

StepPlan plan_of(std::vector<PlanRows> sequences, std::vector<TokenId> ids) {
  StepPlan plan;
  plan.sequences = std::move(sequences);
  plan.ids = std::move(ids);
  return plan;
}

PlanRows rows_of(int32_t slot, int32_t first_row, int32_t rows, int32_t sampled) {
  PlanRows out;
  out.slot = slot;
  out.first_row = first_row;
  out.rows = rows;
  out.sampled = sampled;
  return out;
}

StepResult result_of(const std::vector<std::vector<TokenId>>& drafts) {
  StepResult result;
  for (const std::vector<TokenId>& of_one : drafts) {
    SequenceResult sequence;
    sequence.first_draft = static_cast<int32_t>(result.drafts.size());
    sequence.drafts = static_cast<int32_t>(of_one.size());
    result.sequences.push_back(sequence);
    result.drafts.insert(result.drafts.end(), of_one.begin(), of_one.end());
  }
  return result;
}

TEST(DraftIds, EachSequenceGetsItsOwnWithTwoPlansInFlight) {
  DraftIds ids(4);
  // A chunk in the middle of a prompt has no result.
  EXPECT_EQ(
      ids.name_ids(plan_of({rows_of(2, 0, 2, 1), rows_of(0, 2, 1, 0), rows_of(1, 3, 1, 1)}, {7, 8, 5, 9}))
          .ids,
      (std::vector<TokenId>{7, 8, 5, 9}));
  EXPECT_EQ(ids.name_ids(plan_of({rows_of(3, 0, 1, 1)}, {4})).ids, (std::vector<TokenId>{4}));
  ids.take(result_of({{20, 21}, {10, 11}}));
  EXPECT_EQ(ids.name_ids(plan_of({rows_of(1, 0, 3, 3), rows_of(2, 3, 2, 2)},
                                 {1, kTokenOnDevice, kTokenOnDevice, 2, kTokenOnDevice}))
                .ids,
            (std::vector<TokenId>{1, 10, 11, 2, 20}));
  ids.take(result_of({{30, 31}}));
  ids.take(result_of({{12, 13}, {22, 23}}));
  EXPECT_EQ(ids.name_ids(plan_of({rows_of(3, 0, 2, 2), rows_of(2, 2, 2, 2)},
                                 {3, kTokenOnDevice, 2, kTokenOnDevice}))
                .ids,
            (std::vector<TokenId>{3, 30, 2, 22}));
}

}  // namespace
}  // namespace gantry

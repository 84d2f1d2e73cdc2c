// The sizes that plan/host_traffic.cc reckons with are those of the messages.
#include "plan/host_traffic.h"

#include <gtest/gtest.h>

#include "runtime/step_codec.h"

namespace gantry {
namespace {

size_t plan_bytes(int32_t sequences) {
  StepPlan plan;
  for (int32_t i = 0; i < sequences; ++i) {
    PlanRows& rows = plan.sequences.emplace_back();
    rows.slot = rows.first_row = i;
    rows.rows = rows.sampled = 1;
    plan.ids.push_back(1);
  }
  return encode_plan(plan, true).size();
}

size_t result_bytes(int32_t sequences) {
  StepResult result;
  for (int32_t i = 0; i < sequences; ++i) {
    SequenceResult& sequence = result.sequences.emplace_back();
    sequence.first_token = i;
    sequence.accepted = 1;
    result.tokens.push_back({.id = 1});
  }
  return encode_result(result).size();
}

TEST(HostTraffic, MessagesHaveTheSizesThatAreReckonedWith) {
  EXPECT_EQ(plan_bytes(0), 28u);
  EXPECT_EQ(plan_bytes(9) - plan_bytes(8), 64u);
  EXPECT_EQ(result_bytes(0), 28u);
  EXPECT_EQ(result_bytes(9) - result_bytes(8), 53u);
}

TEST(HostTraffic, RowsAreMostOfIt) {
  ModelConfig config;
  config.hidden = 7168;
  const ParallelSizes sizes{.tensor = 8, .pipeline = 2};
  const HostTraffic one = host_traffic(config, sizes, 2, 1);
  const HostTraffic many = host_traffic(config, sizes, 2, 64);
  const double rows = 8.0 * 7168 * 4;
  EXPECT_GT(one.rows, rows);
  EXPECT_LT(one.rows, 1.06 * rows);  // headers of whole packets are 5%
  EXPECT_LT(many.first_sends(2), one.first_sends(2));
  EXPECT_LT(many.first_receives(), 0.01 * rows);
}

}  // namespace
}  // namespace gantry

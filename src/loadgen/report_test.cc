#include "loadgen/report.h"

#include <gtest/gtest.h>

namespace gantry::loadgen {
namespace {

constexpr int64_t kMs = 1'000'000;

LoadRecord completed(int64_t sent_ms, int64_t first_ms, int64_t gap_ms, int64_t tokens) {
  LoadRecord r;
  r.outcome = Outcome::kCompleted;
  r.http_status = 200;
  r.sent_ns = sent_ms * kMs;
  r.first_ns = first_ms * kMs;
  r.last_ns = r.first_ns;
  for (int64_t i = 1; i < tokens; ++i) {
    r.gap_ns.push_back(gap_ms * kMs);
    r.last_ns += gap_ms * kMs;
  }
  r.end_ns = r.last_ns;
  r.prompt_tokens = 10;
  r.output_tokens = tokens;
  return r;
}

LoadRecord ended(Outcome outcome, int status, int64_t sent_ms, int64_t end_ms) {
  LoadRecord r;
  r.outcome = outcome;
  r.http_status = status;
  r.sent_ns = sent_ms * kMs;
  r.end_ns = end_ms * kMs;
  r.error = "status " + std::to_string(status);
  return r;
}

TEST(Distribution, InterpolatesAsNumpyDoes) {
  const Distribution d = distribution({4, 1, 3, 2});
  EXPECT_EQ(d.count, 4u);
  EXPECT_DOUBLE_EQ(d.mean, 2.5);
  EXPECT_DOUBLE_EQ(d.p50, 2.5);
  EXPECT_DOUBLE_EQ(d.p90, 3.7);
  EXPECT_DOUBLE_EQ(d.p99, 3.97);
  EXPECT_DOUBLE_EQ(d.stddev, std::sqrt(1.25));
  EXPECT_DOUBLE_EQ(d.min, 1);
  EXPECT_DOUBLE_EQ(d.max, 4);
  EXPECT_EQ(distribution({}).count, 0u);
}

TEST(Report, CountsEachOutcomeOnce) {
  const std::vector<LoadRecord> records = {
      completed(0, 100, 10, 11),                // ttft 100, tpot 10, e2e 200
      completed(500, 900, 20, 6),               // ttft 400, tpot 20, e2e 500
      ended(Outcome::kRefused, 429, 600, 603),  // 3 ms
      ended(Outcome::kFailed, 200, 700, 2000),
      ended(Outcome::kFailed, 0, 700, 710),
  };
  const LoadReport report = summarize(records, {.ttft_ms = 150.0, .tpot_ms = 15.0});
  EXPECT_EQ(report.completed, 2u);
  EXPECT_EQ(report.refused, 1u);
  EXPECT_EQ(report.failed, 2u);
  EXPECT_EQ(report.admitted_then_failed, 1u);
  EXPECT_DOUBLE_EQ(report.seconds, 2.0);
  EXPECT_DOUBLE_EQ(report.requests_per_s, 1.0);
  EXPECT_EQ(report.output_tokens, 17);
  EXPECT_DOUBLE_EQ(report.output_tokens_per_s, 8.5);
  EXPECT_DOUBLE_EQ(report.total_tokens_per_s, 18.5);
  EXPECT_DOUBLE_EQ(*report.goodput_per_s, 0.5);
  EXPECT_DOUBLE_EQ(report.ttft_ms.mean, 250);
  EXPECT_DOUBLE_EQ(report.tpot_ms.mean, 15);
  EXPECT_EQ(report.itl_ms.count, 15u);
  EXPECT_DOUBLE_EQ(report.e2e_ms.max, 500);
  EXPECT_DOUBLE_EQ(report.refusal_ms.p99, 3);
  EXPECT_EQ(report.errors.size(), 3u);
  const auto json = to_json(report);
  EXPECT_EQ(json["errors"]["status 429"], 1);
  EXPECT_EQ(json["ttft_ms"]["p50"], 250.0);
  EXPECT_NE(to_table(report).find("completed 2, refused 1, failed 2"), std::string::npos);
}

TEST(Report, NothingIsNoError) {
  const LoadReport report = summarize({}, {});
  EXPECT_EQ(report.completed, 0u);
  EXPECT_FALSE(report.goodput_per_s);
  EXPECT_FALSE(to_table(report).empty());
}

TEST(Goals, AreReadAsVllmWritesThem) {
  const auto goals = parse_goals({"ttft:500", "e2el:2.5"});
  ASSERT_TRUE(goals.ok());
  EXPECT_EQ(goals->ttft_ms, 500.0);
  EXPECT_EQ(goals->e2e_ms, 2.5);
  EXPECT_FALSE(goals->tpot_ms);
  for (const char* wrong : {"ttft", "ttft:", "ttft:x", "ttft:-1", "foo:1", ":1", ""}) {
    EXPECT_EQ(parse_goals({wrong}).status().param(), "--goodput") << wrong;
  }
}

}  // namespace
}  // namespace gantry::loadgen

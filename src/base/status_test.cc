#include "base/status.h"

#include <gtest/gtest.h>

namespace gantry {
namespace {

Result<int> half(int n) {
  if (n % 2 != 0) return invalid_argument("n must be even", "n");
  return n / 2;
}

Result<int> quarter(int n) {
  GANTRY_ASSIGN_OR_RETURN(const int h, half(n));
  return half(h);
}

TEST(Status, ErrorsCarryCodeMessageAndParam) {
  const Status status = half(3).status().with_context("request 7");
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "request 7: n must be even");
  EXPECT_EQ(status.param(), "n");
}

TEST(Result, PropagatesTheFirstError) {
  EXPECT_EQ(quarter(8).value(), 2);
  EXPECT_EQ(quarter(6).status().param(), "n");
}

TEST(ResultDeathTest, ValueOfAnErrorIsABug) { EXPECT_DEATH((void)half(1).value(), "n must be even"); }

}  // namespace
}  // namespace gantry

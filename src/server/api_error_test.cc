#include "server/api_error.h"

#include <gtest/gtest.h>

namespace gantry {
namespace {

TEST(ApiError, RetryAfterIsAWholeSecondAndAtMostAMinute) {
  EXPECT_EQ(retry_after_seconds(0), 1);
  EXPECT_EQ(retry_after_seconds(2.1), 3);
  EXPECT_EQ(retry_after_seconds(1e9), 60);
  const HttpResponse response = error_response(resource_exhausted("full"), "req", 3);
  EXPECT_EQ(response.status, 429);
  ASSERT_EQ(response.headers.size(), 1u);
  EXPECT_EQ(response.headers[0].name, "Retry-After");
  EXPECT_EQ(response.headers[0].value, "3");
}

}  // namespace
}  // namespace gantry

#include "cli/progress.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/log.h"

namespace gantry::cli {
namespace {

constexpr uint64_t kMiB = 1 << 20;

// What updates with these numbers of bytes of 8 MiB write where no terminal is.
std::string shown(std::initializer_list<uint64_t> done) {
  testing::internal::CaptureStderr();
  init_log("info");
  Progress progress("loading x");
  for (const uint64_t bytes : done) progress.update(bytes, 8 * kMiB);
  progress.finish();
  return testing::internal::GetCapturedStderr();
}

TEST(Progress, TheEndIsShownOnce) {
  // The loader reports the last tensor, then that it is done.
  const std::string lines = shown({8 * kMiB, 8 * kMiB});
  EXPECT_NE(lines.find("loading x: 8 of 8 MiB"), std::string::npos) << lines;
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 1) << lines;
}

TEST(Progress, StepsThatFollowAtOnceAreNotShown) {
  const std::string lines = shown({1 * kMiB, 2 * kMiB, 3 * kMiB});
  EXPECT_EQ(lines, "");
}

}  // namespace
}  // namespace gantry::cli

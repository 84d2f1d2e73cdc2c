#include "base/system_memory.h"

#include <gtest/gtest.h>

#include <vector>

namespace gantry {
namespace {

TEST(SystemMemory, ThePeakFollowsWhatIsTouched) {
  constexpr size_t kBytes = 64u << 20;
  ASSERT_GT(usable_memory_bytes(), kBytes);
  ASSERT_TRUE(reset_peak_memory());
  const ResidentMemory before = resident_memory();
  ASSERT_GT(before.now, 0u);
  {
    const std::vector<char> touched(kBytes, 1);
    EXPECT_GE(resident_memory().now, before.now + kBytes / 2) << touched.size();
  }
  const ResidentMemory after = resident_memory();
  EXPECT_GE(after.peak, before.now + kBytes / 2);
  EXPECT_LE(after.now, before.now + kBytes / 2);
  ASSERT_TRUE(reset_peak_memory());
  EXPECT_LT(resident_memory().peak, after.peak);
}

}  // namespace
}  // namespace gantry

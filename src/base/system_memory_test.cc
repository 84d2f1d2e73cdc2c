#include "base/system_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>

namespace gantry {
namespace {

TEST(SystemMemory, ThePeakFollowsWhatIsTouched) {
  constexpr size_t kBytes = 64u << 20;
  ASSERT_GT(usable_memory_bytes(), kBytes);
  ASSERT_TRUE(reset_peak_memory());
  const ResidentMemory before = resident_memory();
  ASSERT_GT(before.now, 0u);
  // A vector would not do: a compiler may leave out what is allocated and never looked at.
  void* const touched = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(touched, MAP_FAILED);
  std::memset(touched, 1, kBytes);
  EXPECT_GE(resident_memory().now, before.now + kBytes / 2);
  ASSERT_EQ(munmap(touched, kBytes), 0);
  const ResidentMemory after = resident_memory();
  EXPECT_GE(after.peak, before.now + kBytes / 2);
  EXPECT_LE(after.now, before.now + kBytes / 2);
  ASSERT_TRUE(reset_peak_memory());
  EXPECT_LT(resident_memory().peak, after.peak);
}

}  // namespace
}  // namespace gantry

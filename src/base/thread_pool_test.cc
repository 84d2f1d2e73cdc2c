#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <numeric>

namespace gantry {
namespace {

TEST(ThreadPool, RunsEveryIndexOnceForManyRegions) {
  ThreadPool pool(4);
  std::vector<int> hits(1001);
  for (int round = 0; round < 2000; ++round) {
    const int64_t count = round % 1001;
    pool.parallel_for(count, 7, [&](int64_t begin, int64_t end, int thread) {
      ASSERT_LT(thread, 4);
      for (int64_t i = begin; i < end; ++i) ++hits[i];
    });
  }
  for (size_t i = 0; i < hits.size(); ++i) {
    int expected = 0;
    for (int round = 0; round < 2000; ++round) expected += static_cast<int64_t>(i) < round % 1001;
    EXPECT_EQ(hits[i], expected) << i;
  }
}

}  // namespace
}  // namespace gantry

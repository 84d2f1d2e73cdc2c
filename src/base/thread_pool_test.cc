#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <thread>
#include <vector>

namespace gantry {
namespace {

TEST(ThreadPool, RunsEveryIndexOnceForManyRegions) {
  ThreadPool pool(4);
  std::vector<int> hits(1001);
  for (int round = 0; round < 2000; ++round) {
    const int64_t count = round % 1001;
    pool.parallel_for(count, 7, [&](int64_t begin, int64_t end, int thread) {
      ASSERT_LT(thread, 4);
      ASSERT_LE(end - begin, 7);
      for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
    });
  }
  for (size_t i = 0; i < hits.size(); ++i) {
    int expected = 0;
    for (int round = 0; round < 2000; ++round) expected += static_cast<int64_t>(i) < round % 1001;
    EXPECT_EQ(hits[i], expected) << i;
  }
}

TEST(ThreadPool, ReturnsOnlyWhenEveryChunkIsDone) {
  ThreadPool pool(3);
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> done{0};
    pool.parallel_for(9, 1, [&](int64_t, int64_t, int) {
      std::this_thread::yield();
      done.fetch_add(1, std::memory_order_relaxed);
    });
    ASSERT_EQ(done.load(std::memory_order_relaxed), 9);
  }
}

// A share whose owner is busy with one chunk is finished by the others.
TEST(ThreadPool, IdleThreadsTakeChunksOfABusyOne) {
  ThreadPool pool(2);
  std::atomic<int> others{0};
  pool.parallel_for(16, 1, [&](int64_t begin, int64_t, int) {
    if (begin != 0) {
      others.fetch_add(1);
      return;
    }
    while (others.load() < 15) std::this_thread::yield();
  });
  EXPECT_EQ(others.load(), 15);
}

TEST(ThreadPool, RegionsAfterThePoolHasParked) {
  ThreadPool pool(4);
  for (int round = 0; round < 3; ++round) {
    std::atomic<int64_t> sum{0};
    pool.parallel_for(100, 3, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) sum += i;
    });
    EXPECT_EQ(sum.load(), 4950);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // longer than the spin
  }
}

TEST(ThreadPool, PinningLeavesTheCallerOnOneCore) {
  ThreadPool pool(2, true);
  std::thread caller([&] {
    pool.parallel_for(8, 1, [](int64_t, int64_t, int) {});
    cpu_set_t set;
    ASSERT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
    EXPECT_EQ(CPU_COUNT(&set), 1);
  });
  caller.join();
}

}  // namespace
}  // namespace gantry

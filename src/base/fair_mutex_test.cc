#include "base/fair_mutex.h"

#include <gtest/gtest.h>

#include <numeric>
#include <thread>
#include <vector>

namespace gantry {
namespace {

void wait_until_waiting(const FairMutex& mutex, uint64_t threads) {
  while (mutex.waiting() < threads) std::this_thread::yield();
}

TEST(FairMutex, IsGivenInTheOrderOfAsking) {
  constexpr int kThreads = 8;
  FairMutex mutex;
  std::vector<int> order;  // guarded by `mutex`
  std::vector<std::thread> threads;
  mutex.lock();
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      std::unique_lock lock(mutex);
      order.push_back(i);
    });
    wait_until_waiting(mutex, static_cast<uint64_t>(i) + 1);
  }
  mutex.unlock();
  for (std::thread& thread : threads) thread.join();
  std::vector<int> expected(kThreads);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(order, expected);
  EXPECT_EQ(mutex.waiting(), 0u);
}

TEST(FairMutex, OneThatAsksAgainAtOnceGoesBehindThoseThatWait) {
  constexpr int kTurns = 500;
  FairMutex mutex;
  std::vector<int> order;  // guarded by `mutex`
  const auto take_turns = [&](int self) {
    for (int i = 0; i < kTurns; ++i) {
      std::unique_lock lock(mutex);
      order.push_back(self);
      if (i + 1 < kTurns) wait_until_waiting(mutex, 1);  // the other has a turn left as well
    }
  };
  std::thread other(take_turns, 1);
  take_turns(0);
  other.join();
  ASSERT_EQ(order.size(), size_t{2} * kTurns);
  for (size_t i = 1; i < order.size(); ++i) ASSERT_NE(order[i], order[i - 1]) << i;
}

TEST(FairMutex, ExcludesOthers) {
  FairMutex mutex;
  int64_t count = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 2000; ++j) {
        std::unique_lock lock(mutex);
        ++count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(count, 8000);
}

}  // namespace
}  // namespace gantry

#include "model/load_threads.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <vector>

namespace gantry {
namespace {

TEST(LoadThreads, EveryIndexRunsOnceAlsoNested) {
  LoadThreads threads(4);
  std::vector<std::atomic<int>> runs(6 * 50);
  const Status status = threads.for_each(6, [&](int64_t outer) {
    return threads.for_each(50, [&, outer](int64_t inner) {
      ++runs[static_cast<size_t>(outer * 50 + inner)];
      return Status();
    });
  });
  EXPECT_TRUE(status.ok());
  for (const auto& count : runs) EXPECT_EQ(count, 1);
  EXPECT_TRUE(threads.for_each(0, [](int64_t) { return internal_error("never"); }).ok());
}

// All four wait for each other: fewer threads would never finish.
TEST(LoadThreads, RunsAsManyAtOnceAsThereAreThreads) {
  LoadThreads threads(4);
  std::mutex mutex;
  std::condition_variable changed;
  int inside = 0;
  const Status status = threads.for_each(4, [&](int64_t) {
    std::unique_lock lock(mutex);
    ++inside;
    changed.notify_all();
    changed.wait(lock, [&] { return inside == 4; });
    return Status();
  });
  EXPECT_TRUE(status.ok());
  // They are spare again.
  inside = 0;
  EXPECT_TRUE(threads
                  .for_each(4,
                            [&](int64_t) {
                              std::unique_lock lock(mutex);
                              ++inside;
                              changed.notify_all();
                              changed.wait(lock, [&] { return inside == 4; });
                              return Status();
                            })
                  .ok());
}

// An inner loop that begins while all others are busy gets them when they are done: its four indices wait for each other.
TEST(LoadThreads, ThreadsThatAreDoneHelpInnerLoops) {
  LoadThreads threads(4);
  std::mutex mutex;
  std::condition_variable changed;
  int inside = 0;
  bool inner_began = false;
  const Status status = threads.for_each(4, [&](int64_t outer) {
    if (outer != 0) {  // these hold their threads until the inner loop runs
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return inner_began; });
      return Status();
    }
    return threads.for_each(4, [&](int64_t) {
      std::unique_lock lock(mutex);
      inner_began = true;
      ++inside;
      changed.notify_all();
      changed.wait(lock, [&] { return inside == 4; });
      return Status();
    });
  });
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(inside, 4);
}

TEST(LoadThreads, AnErrorEndsIt) {
  LoadThreads threads(1);
  int64_t runs = 0;
  const Status status = threads.for_each(100, [&](int64_t i) {
    ++runs;
    return i == 7 ? data_loss("broken") : Status();
  });
  EXPECT_EQ(status.message(), "broken");
  EXPECT_EQ(runs, 8);
}

}  // namespace
}  // namespace gantry

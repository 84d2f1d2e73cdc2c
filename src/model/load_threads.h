// Threads that load weights: several wait for the disk while others pack.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/status.h"

namespace gantry {

// Four keep a disk busy where one does not (docs/decisions/0007-weights-are-read.md).
inline constexpr int kLoadThreads = 4;

class LoadThreads {
 public:
  // Of them the caller's is one.
  explicit LoadThreads(int threads);
  ~LoadThreads();
  LoadThreads(const LoadThreads&) = delete;
  LoadThreads& operator=(const LoadThreads&) = delete;

  // run(0) to run(count - 1), in any order, on the caller's thread and on all that have nothing else to do. Calls
  // nest: a thread that is done with an outer call's indices, or waits for them, takes those of the inner calls. After
  // an error no further index is begun; it is returned.
  Status for_each(int64_t count, const std::function<Status(int64_t)>& run);

 private:
  struct Loop {
    const std::function<Status(int64_t)>& run;
    int64_t count;
    int depth;  // 1: not within another
    int64_t next = 0;
    int64_t running = 0;
    Status error = {};
  };

  void work();
  // The innermost loop from `depth_min` on that has indices left, or null.
  Loop* open_loop(int depth_min);
  void run_next(Loop& loop, std::unique_lock<std::mutex>& lock);

  std::mutex mutex_;  // of all that follows
  std::condition_variable changed_;
  std::vector<Loop*> loops_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace gantry

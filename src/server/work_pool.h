// Threads for what is too long for an I/O thread: parsing bodies, rendering templates, tokenising.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace gantry {

class WorkPool {
 public:
  explicit WorkPool(int threads);
  ~WorkPool();  // runs what is queued, then joins

  // False if limits::kWorkQueueMax tasks or limits::kWorkQueueBytesMax bytes wait already. `bytes` is what
  // the task holds.
  bool submit(size_t bytes, std::function<void()> task);

 private:
  struct Task {
    size_t bytes;
    std::function<void()> run;
  };
  void work();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Task> tasks_;
  size_t bytes_ = 0;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace gantry

#include "model/load_threads.h"

#include <algorithm>
#include <mutex>
#include <thread>
#include <vector>

namespace gantry {

int LoadThreads::take_spare(int64_t wanted) {
  int spare = spare_.load();
  while (true) {
    const int taken = static_cast<int>(std::clamp<int64_t>(wanted, 0, std::max(spare, 0)));
    if (taken == 0 || spare_.compare_exchange_weak(spare, spare - taken)) return taken;
  }
}

Status LoadThreads::for_each(int64_t count, const std::function<Status(int64_t)>& run) {
  std::atomic<int64_t> next{0};
  std::mutex mutex;
  Status first_error;
  const auto work = [&] {
    for (int64_t i = next++; i < count; i = next++) {
      const Status status = run(i);
      if (status.ok()) continue;
      next = count;
      const std::lock_guard lock(mutex);
      if (first_error.ok()) first_error = status;
    }
  };
  std::vector<std::thread> helpers;
  const int taken = take_spare(count - 1);
  for (int i = 0; i < taken; ++i) {
    helpers.emplace_back([&] {
      work();
      ++spare_;  // at once, for an inner call of those that still run
    });
  }
  work();
  for (std::thread& helper : helpers) helper.join();
  return first_error;
}

}  // namespace gantry

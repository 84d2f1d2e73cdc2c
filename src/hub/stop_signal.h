// How a caller ends long work early.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>

namespace gantry::hub {

// Set once, from any thread; every wait ends at once.
class StopSignal {
 public:
  void request() {
    const std::lock_guard lock(mutex_);
    requested_.store(true);
    changed_.notify_all();
  }
  bool requested() const { return requested_.load(); }
  // False when the stop was requested meanwhile.
  bool wait_for(std::chrono::milliseconds duration) const {
    std::unique_lock lock(mutex_);
    return !changed_.wait_for(lock, duration, [this] { return requested_.load(); });
  }

 private:
  std::atomic<bool> requested_{false};
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
};

}  // namespace gantry::hub

#include "server/work_pool.h"

#include <exception>

#include "base/limits.h"
#include "base/log.h"

namespace gantry {

WorkPool::WorkPool(int threads) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

WorkPool::~WorkPool() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool WorkPool::submit(size_t bytes, std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    if (stop_ || tasks_.size() >= limits::kWorkQueueMax) return false;
    if (!tasks_.empty() && bytes_ + bytes > limits::kWorkQueueBytesMax) return false;
    bytes_ += bytes;
    tasks_.push_back({bytes, std::move(task)});
  }
  wake_.notify_one();
  return true;
}

void WorkPool::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stop_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    Task task = std::move(tasks_.front());
    tasks_.pop_front();
    bytes_ -= task.bytes;
    lock.unlock();
    try {
      task.run();
    } catch (const std::exception& error) {
      log::error("a worker's task failed: {}", error.what());  // the request it held is answered with 500
    }
    task = {};
    lock.lock();
  }
}

}  // namespace gantry

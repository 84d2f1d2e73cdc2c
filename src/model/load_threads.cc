#include "model/load_threads.h"

#include <algorithm>
#include <utility>

namespace gantry {
namespace {

thread_local int depth_here = 0;  // of the loop whose index this thread runs

}  // namespace

LoadThreads::LoadThreads(int threads) {
  for (int i = 1; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

LoadThreads::~LoadThreads() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void LoadThreads::work() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    if (Loop* loop = open_loop(1)) {
      run_next(*loop, lock);
    } else {
      changed_.wait(lock);
    }
  }
}

LoadThreads::Loop* LoadThreads::open_loop(int depth_min) {
  Loop* innermost = nullptr;
  for (Loop* loop : loops_) {
    if (loop->next >= loop->count || loop->depth < depth_min) continue;
    if (innermost == nullptr || loop->depth > innermost->depth) innermost = loop;
  }
  return innermost;
}

void LoadThreads::run_next(Loop& loop, std::unique_lock<std::mutex>& lock) {
  const int64_t index = loop.next++;
  ++loop.running;
  lock.unlock();
  const int outer = std::exchange(depth_here, loop.depth);
  Status status = loop.run(index);
  depth_here = outer;
  lock.lock();
  --loop.running;
  if (!status.ok()) {
    loop.next = loop.count;
    if (loop.error.ok()) loop.error = std::move(status);
  }
  if (loop.running == 0 && loop.next >= loop.count) changed_.notify_all();
}

Status LoadThreads::for_each(int64_t count, const std::function<Status(int64_t)>& run) {
  Loop loop{.run = run, .count = count, .depth = depth_here + 1};
  std::unique_lock lock(mutex_);
  loops_.push_back(&loop);
  changed_.notify_all();
  while (true) {
    if (loop.next < loop.count) {
      run_next(loop, lock);
    } else if (loop.running == 0) {
      break;
    } else if (Loop* inner = open_loop(loop.depth + 1)) {
      run_next(*inner, lock);
    } else {
      changed_.wait(lock);
    }
  }
  std::erase(loops_, &loop);
  return std::move(loop.error);
}

}  // namespace gantry

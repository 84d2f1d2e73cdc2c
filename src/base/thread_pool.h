// The compute pool: a fixed team that runs one parallel region at a time, pinned one thread per core where
// allowed.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace gantry {

// A non-owning reference to `void(int64_t begin, int64_t end, int thread)`; the callee outlives the call.
class RangeFn {
 public:
  template <typename F>
  RangeFn(const F& f)  // NOLINT: implicit by design
      : object_(&f),
        call_([](const void* o, int64_t b, int64_t e, int t) { (*static_cast<const F*>(o))(b, e, t); }) {}
  void operator()(int64_t begin, int64_t end, int thread) const { call_(object_, begin, end, thread); }

 private:
  const void* object_;
  void (*call_)(const void*, int64_t, int64_t, int);
};

class ThreadPool {
 public:
  // threads >= 1, the caller of parallel_for included: ThreadPool(1) starts none.
  explicit ThreadPool(int threads, bool pin = false);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return size_; }

  // Runs fn over [0, count) in chunks of at most `grain`, handed out dynamically; returns when all are done.
  // Which thread runs a chunk is not fixed, so results must not depend on it. One caller at a time; no
  // allocation.
  void parallel_for(int64_t count, int64_t grain, RangeFn fn);

 private:
  struct Region;
  void worker(int thread);
  void run_chunks(const Region& region, int thread);

  int size_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_;
  alignas(64) std::atomic<uint64_t> epoch_{0};
  alignas(64) std::atomic<int64_t> next_{0};
  alignas(64) std::atomic<int> running_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
  const Region* region_ = nullptr;
};

}  // namespace gantry

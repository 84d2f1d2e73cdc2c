// The compute pool: a fixed team that runs one parallel region at a time, pinned one thread per core where
// allowed.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
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
  // threads >= 1, the caller of parallel_for included: ThreadPool(1) starts none. pin: each thread to its own
  // core of those that the process may use; the caller at its first parallel_for.
  explicit ThreadPool(int threads, bool pin = false);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return size_; }

  // Runs fn over [0, count) in chunks of at most `grain`; returns when all are done. Each thread starts with
  // an equal share and takes chunks of others' when its own are gone. A thread that the system has not let
  // run is not waited for unless it holds a chunk. Which thread runs a chunk is not fixed, so results must
  // not depend on it. One caller at a time; no allocation.
  void parallel_for(int64_t count, int64_t grain, RangeFn fn);

 private:
  // A thread's share of the region, on a cache line of its own.
  struct alignas(64) Share {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };

  void worker(int thread);
  bool join(uint64_t epoch);
  void run_chunks(int thread);
  void pin_caller();

  int size_;
  bool pin_;
  int spin_pauses_;
  std::thread::id pinned_caller_{};
  std::vector<std::thread> threads_;
  std::unique_ptr<Share[]> shares_;  // [size_]
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};

  // Epoch of the region, whether it is closed to newcomers, and how many workers are in it; with the region
  // itself, which is written while it is closed and empty.
  alignas(64) std::atomic<uint64_t> state_;
  int64_t grain_ = 0;
  const RangeFn* fn_ = nullptr;
};

}  // namespace gantry

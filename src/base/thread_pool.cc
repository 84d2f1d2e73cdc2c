#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>

#include "base/check.h"

namespace gantry {
namespace {

// Spins this many pauses (some 20 us) for the next region before parking: decode steps issue regions a few us
// apart.
constexpr int kSpinPauses = 2000;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

void pin_to(int index) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  int seen = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || seen++ != index) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
    return;
  }
}

}  // namespace

struct ThreadPool::Region {
  RangeFn fn;
  int64_t count;
  int64_t grain;
};

ThreadPool::ThreadPool(int threads, bool pin) : size_(threads) {
  GANTRY_CHECK(threads >= 1);
  for (int i = 1; i < threads; ++i) {
    threads_.emplace_back([this, i, pin] {
      if (pin) pin_to(i);
      worker(i);
    });
  }
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stop_.store(true);
    epoch_.fetch_add(1);
  }
  wake_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void ThreadPool::run_chunks(const Region& region, int thread) {
  for (;;) {
    const int64_t begin = next_.fetch_add(region.grain, std::memory_order_relaxed);
    if (begin >= region.count) return;
    region.fn(begin, std::min(begin + region.grain, region.count), thread);
  }
}

void ThreadPool::worker(int thread) {
  uint64_t seen = 0;
  for (;;) {
    for (int i = 0; i < kSpinPauses && epoch_.load(std::memory_order_acquire) == seen; ++i) pause();
    if (epoch_.load(std::memory_order_acquire) == seen) {
      std::unique_lock lock(mutex_);
      sleepers_.fetch_add(1);
      wake_.wait(lock, [&] { return epoch_.load() != seen; });
      sleepers_.fetch_sub(1);
    }
    seen = epoch_.load(std::memory_order_acquire);
    if (stop_.load()) return;
    run_chunks(*region_, thread);
    running_.fetch_sub(1, std::memory_order_release);
  }
}

void ThreadPool::parallel_for(int64_t count, int64_t grain, RangeFn fn) {
  if (count <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  if (threads_.empty() || count <= grain) {
    fn(0, count, 0);
    return;
  }
  const Region region{fn, count, grain};
  region_ = &region;
  next_.store(0, std::memory_order_relaxed);
  running_.store(static_cast<int>(threads_.size()), std::memory_order_relaxed);
  epoch_.fetch_add(1);  // seq_cst: pairs with the sleepers' check under the mutex
  if (sleepers_.load() > 0) {
    {
      std::lock_guard lock(mutex_);
    }
    wake_.notify_all();
  }
  run_chunks(region, 0);
  // Yield once the wait is longer than a chunk should take: a neighbour may hold the other core.
  for (int i = 0; running_.load(std::memory_order_acquire) != 0; ++i) {
    if (i < kSpinPauses) {
      pause();
    } else {
      std::this_thread::yield();
    }
  }
}

}  // namespace gantry

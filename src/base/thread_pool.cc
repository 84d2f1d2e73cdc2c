#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>

#include "base/check.h"

namespace gantry {
namespace {

// A worker spins this many pauses (some 100 us) for the next region before it parks: regions follow each
// other within microseconds, and the gap between two steps is about that long.
constexpr int kSpinPauses = 8000;
// With more threads than cores, spinning takes the time of those that work.
constexpr int kSpinPausesCrowded = 100;
// The caller spins this many (some 20 us) for a worker's last chunk before it yields: a neighbour may hold
// the worker's core.
constexpr int kJoinPauses = 2000;

// state_: epoch << kEpochShift | closed | joined workers
constexpr uint64_t kClosed = 1u << 15;
constexpr uint64_t kJoinedMask = kClosed - 1;
constexpr int kEpochShift = 16;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

int cores_allowed() {
  cpu_set_t allowed;
  return sched_getaffinity(0, sizeof(allowed), &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
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

ThreadPool::ThreadPool(int threads, bool pin)
    : size_(threads),
      pin_(pin),
      spin_pauses_(threads <= cores_allowed() ? kSpinPauses : kSpinPausesCrowded),
      shares_(new Share[static_cast<size_t>(std::max(threads, 1))]),
      state_(kClosed) {
  GANTRY_CHECK(threads >= 1 && static_cast<uint64_t>(threads) < kJoinedMask);
  for (int i = 1; i < threads; ++i) {
    threads_.emplace_back([this, i] {
      if (pin_) pin_to(i);
      worker(i);
    });
  }
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stop_.store(true);
    state_.fetch_add(uint64_t{1} << kEpochShift);  // still closed
  }
  wake_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void ThreadPool::pin_caller() {
  const std::thread::id self = std::this_thread::get_id();
  if (!pin_ || pinned_caller_ == self) return;
  pin_to(0);
  pinned_caller_ = self;
}

void ThreadPool::run_chunks(int thread) {
  for (int i = 0; i < size_; ++i) {
    Share& share = shares_[static_cast<size_t>((thread + i) % size_)];
    // The load keeps an empty share's cache line where it is.
    while (share.next.load(std::memory_order_relaxed) < share.end) {
      const int64_t begin = share.next.fetch_add(grain_, std::memory_order_relaxed);
      if (begin >= share.end) break;
      (*fn_)(begin, std::min(begin + grain_, share.end), thread);
    }
  }
}

// Enters the region of that epoch, unless it is closed or over.
bool ThreadPool::join(uint64_t epoch) {
  uint64_t state = state_.load(std::memory_order_relaxed);
  while (state >> kEpochShift == epoch && (state & kClosed) == 0) {
    if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acquire,
                                     std::memory_order_relaxed)) {
      return true;
    }
  }
  return false;
}

void ThreadPool::worker(int thread) {
  uint64_t seen = 0;
  const auto epoch = [this] { return state_.load(std::memory_order_acquire) >> kEpochShift; };
  for (;;) {
    for (int i = 0; i < spin_pauses_ && epoch() == seen; ++i) pause();
    if (epoch() == seen) {
      std::unique_lock lock(mutex_);
      sleepers_.fetch_add(1);
      wake_.wait(lock, [&] { return state_.load() >> kEpochShift != seen; });
      sleepers_.fetch_sub(1);
    }
    seen = epoch();
    if (stop_.load(std::memory_order_acquire)) return;
    if (!join(seen)) continue;
    run_chunks(thread);
    state_.fetch_sub(1, std::memory_order_release);
  }
}

void ThreadPool::parallel_for(int64_t count, int64_t grain, RangeFn fn) {
  if (count <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  pin_caller();
  if (threads_.empty() || count <= grain) {
    fn(0, count, 0);
    return;
  }
  grain_ = grain;
  fn_ = &fn;
  const int64_t chunks = (count + grain - 1) / grain;
  int64_t begin = 0;
  for (int t = 0; t < size_; ++t) {
    Share& share = shares_[static_cast<size_t>(t)];
    share.next.store(begin, std::memory_order_relaxed);
    begin = std::min(count, chunks * (t + 1) / size_ * grain);
    share.end = begin;
  }
  const uint64_t epoch = (state_.load(std::memory_order_relaxed) >> kEpochShift) + 1;
  state_.store(epoch << kEpochShift);  // seq_cst: either this thread sees a sleeper, or the sleeper the epoch
  if (sleepers_.load() > 0) {
    {
      std::lock_guard lock(mutex_);
    }
    wake_.notify_all();
  }
  run_chunks(0);
  state_.fetch_or(kClosed, std::memory_order_acquire);
  for (int i = 0; (state_.load(std::memory_order_acquire) & kJoinedMask) != 0; ++i) {
    if (i < kJoinPauses) {
      pause();
    } else {
      std::this_thread::yield();
    }
  }
}

}  // namespace gantry

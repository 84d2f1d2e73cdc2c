// A mutex that is given in the order in which it was asked for. With std::mutex, a thread that unlocks and
// locks again at once mostly gets it again, however long others have waited.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace gantry {

// For a few threads that hold it for long: unlock() wakes all that wait. Works with std::unique_lock.
class FairMutex {
 public:
  FairMutex() = default;
  FairMutex(const FairMutex&) = delete;
  FairMutex& operator=(const FairMutex&) = delete;

  void lock();
  void unlock();
  // Threads that wait at this moment.
  uint64_t waiting() const;

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t next_ticket_ = 0;
  uint64_t serving_ = 0;  // the ticket that holds it, or will be the next to
};

}  // namespace gantry

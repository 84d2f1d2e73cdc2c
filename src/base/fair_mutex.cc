#include "base/fair_mutex.h"

namespace gantry {

void FairMutex::lock() {
  std::unique_lock lock(mutex_);
  const uint64_t ticket = next_ticket_++;
  changed_.wait(lock, [&] { return serving_ == ticket; });
}

void FairMutex::unlock() {
  {
    std::lock_guard lock(mutex_);
    ++serving_;
  }
  changed_.notify_all();
}

uint64_t FairMutex::waiting() const {
  std::lock_guard lock(mutex_);
  const uint64_t unserved = next_ticket_ - serving_;  // the holder's too
  return unserved > 0 ? unserved - 1 : 0;
}

}  // namespace gantry

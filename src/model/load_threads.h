// Threads that load weights: several wait for the disk while others pack.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "base/status.h"

namespace gantry {

// Four keep a disk busy where one does not (docs/decisions/0007-weights-are-read.md).
inline constexpr int kLoadThreads = 4;

class LoadThreads {
 public:
  // Of them the caller's is one.
  explicit LoadThreads(int threads) : spare_(threads - 1) {}

  // run(0) to run(count - 1), in any order, on the caller's thread and on those that are spare: calls nest, an
  // inner one gets what the outer one left. After an error no further index is begun; it is returned.
  Status for_each(int64_t count, const std::function<Status(int64_t)>& run);

 private:
  int take_spare(int64_t wanted);

  std::atomic<int> spare_;
};

}  // namespace gantry

// Memory that a tensor passes through on its way from the file to its packed form.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "base/status.h"
#include "model/memory.h"

namespace gantry {

// Thread-safe. Buffers are used again, so that loading touches no more than the threads' tensors at a time;
// large ones go back to the system at once.
class Staging {
 public:
  // 64-byte aligned; back in the pool when the pointer goes, before the pool does. kResourceExhausted.
  Result<std::shared_ptr<std::byte>> take(size_t bytes);

 private:
  void give(Memory memory);

  std::mutex mutex_;
  std::vector<Memory> free_;
};

}  // namespace gantry

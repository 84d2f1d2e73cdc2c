// Memory that a backend's ops read and write where it is not the host's: a GPU's.
#pragma once

#include <cstddef>

#include "base/status.h"

namespace gantry {

struct MemorySpace {
  // Zero-filled, 256-byte aligned. kResourceExhausted where there is not enough.
  Result<void*> (*allocate)(size_t bytes);
  void (*release)(void* base);
  // The host's memory, page-locked, that the ops reach at the same address: slow to them, fast to copy.
  Result<void*> (*allocate_host)(size_t bytes);
  void (*release_host)(void* base);
  // From the host's memory, and from the space into it. Return when done: for loading.
  Status (*upload)(void* to, const void* from, size_t bytes);
  Status (*download)(void* to, const void* from, size_t bytes);
  // Of the whole space, other processes' share included.
  struct Usage {
    size_t used = 0;
    size_t total = 0;
  };
  Usage (*usage)();
};

}  // namespace gantry

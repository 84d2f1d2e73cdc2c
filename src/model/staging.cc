#include "model/staging.h"

#include <algorithm>

namespace gantry {
namespace {

constexpr size_t kPooledBytesMax = size_t{64} << 20;
constexpr size_t kPooledBuffersMax = 64;

}  // namespace

Result<std::shared_ptr<std::byte>> Staging::take(size_t bytes) {
  Memory memory;
  {
    const std::lock_guard lock(mutex_);
    auto best = free_.end();
    for (auto it = free_.begin(); it != free_.end(); ++it) {
      if (it->bytes().size() < bytes || it->bytes().size() > 4 * bytes) continue;
      if (best == free_.end() || it->bytes().size() < best->bytes().size()) best = it;
    }
    if (best != free_.end()) {
      std::swap(*best, free_.back());
      memory = std::move(free_.back());
      free_.pop_back();
    }
  }
  if (memory.bytes().size() < std::max<size_t>(bytes, 1)) {
    GANTRY_ASSIGN_OR_RETURN(memory, Memory::map(std::max<size_t>(bytes, 1), "a tensor that is being loaded"));
  }
  std::byte* data = memory.bytes().data();
  auto owner = std::make_shared<Memory>(std::move(memory));
  return std::shared_ptr<std::byte>(data, [this, owner](std::byte*) { give(std::move(*owner)); });
}

void Staging::give(Memory memory) {
  if (memory.bytes().size() > kPooledBytesMax) return;
  const std::lock_guard lock(mutex_);
  if (free_.size() < kPooledBuffersMax) free_.push_back(std::move(memory));
}

}  // namespace gantry

#include "model/memory.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace gantry {

Memory::~Memory() {
  if (base_ == nullptr) return;
  if (space_ != nullptr) {
    space_->release(base_);
  } else {
    munmap(base_, size_);
  }
}

Memory::Memory(Memory&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      space_(other.space_) {}

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(base_, other.base_);
  std::swap(size_, other.size_);
  std::swap(space_, other.space_);
  return *this;
}

Result<Memory> Memory::map(size_t bytes, std::string_view purpose, const MemorySpace* space) {
  Memory memory;
  if (bytes == 0) return memory;
  if (space != nullptr) {
    const Result<void*> base = space->allocate(bytes);
    if (!base.ok()) return base.status().with_context(purpose);
    memory.base_ = static_cast<std::byte*>(*base);
    memory.size_ = bytes;
    memory.space_ = space;
    return memory;
  }
  void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) {
    return resource_exhausted(fmt::format("{} needs {:.2f} GB, which the system refuses", purpose,
                                          static_cast<double>(bytes) / 1e9));
  }
  madvise(base, bytes, MADV_HUGEPAGE);  // advice: where the kernel has none, small pages serve
  memory.base_ = static_cast<std::byte*>(base);
  memory.size_ = bytes;
  return memory;
}

void Arena::trim() {
  if (space_ != nullptr || chunks_.empty()) return;
  const std::span<std::byte> chunk = chunks_.back().bytes();
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t first = (used_ + page - 1) / page * page;
  if (first < chunk.size()) madvise(chunk.data() + first, chunk.size() - first, MADV_DONTNEED);
}

Result<std::span<std::byte>> Arena::take(size_t bytes) {
  constexpr size_t kChunkBytes = size_t{64}
                                 << 20;  // on the host address space: pages are touched as they are used
  bytes = rounded(bytes);
  if (chunks_.empty() || chunks_.back().bytes().size() - used_ < bytes) {
    GANTRY_ASSIGN_OR_RETURN(Memory chunk,
                            Memory::map(std::max(bytes, kChunkBytes), "the model's weights", space_));
    chunks_.push_back(std::move(chunk));
    used_ = 0;
  }
  const std::span<std::byte> piece = chunks_.back().bytes().subspan(used_, bytes);
  used_ += bytes;
  taken_ += bytes;
  return piece;
}

}  // namespace gantry

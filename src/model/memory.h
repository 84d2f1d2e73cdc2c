// Large anonymous memory: zero-filled; on the host page-aligned, on first touch, with huge pages where it can.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "kernels/ops/memory_space.h"

namespace gantry {

class Memory {
 public:
  Memory() = default;
  ~Memory();
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&& other) noexcept;

  // In `space`, or the host's memory (null). kResourceExhausted when there is not enough; `purpose` ("the KV
  // cache") is for the message.
  static Result<Memory> map(size_t bytes, std::string_view purpose, const MemorySpace* space = nullptr);

  std::span<std::byte> bytes() const { return {base_, size_}; }

 private:
  std::byte* base_ = nullptr;
  size_t size_ = 0;
  const MemorySpace* space_ = nullptr;
};

// Storage for weights: pieces that live until the arena goes.
class Arena {
 public:
  explicit Arena(const MemorySpace* space = nullptr) : space_(space) {}

  // 256-byte aligned, rounded(bytes) long. kResourceExhausted as Memory::map.
  Result<std::span<std::byte>> take(size_t bytes);
  static constexpr size_t rounded(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }
  // All that was taken.
  size_t bytes() const { return taken_; }
  // When nothing more will be taken: gives back what the last huge page holds beyond it, on the host up to 2 MB.
  void trim();

 private:
  static constexpr size_t kAlignment = 256;  // what bulk copies of a GPU and cache lines want

  const MemorySpace* space_;
  std::vector<Memory> chunks_;
  size_t used_ = 0;  // of the last chunk
  size_t taken_ = 0;
};

}  // namespace gantry

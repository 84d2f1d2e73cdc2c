// Large anonymous memory: page-aligned, zero-filled by the system on first touch, huge pages where it can.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace gantry {

class Memory {
 public:
  Memory() = default;
  ~Memory();
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&& other) noexcept;

  // kResourceExhausted when the system refuses; `purpose` ("the KV cache") is for the message.
  static Result<Memory> map(size_t bytes, std::string_view purpose);

  std::span<std::byte> bytes() const { return {base_, size_}; }

 private:
  std::byte* base_ = nullptr;
  size_t size_ = 0;
};

// Storage for weights: pieces that live until the arena goes.
class Arena {
 public:
  // 64-byte aligned. kResourceExhausted as Memory::map.
  Result<std::span<std::byte>> take(size_t bytes);

 private:
  std::vector<Memory> chunks_;
  size_t used_ = 0;  // of the last chunk
};

}  // namespace gantry

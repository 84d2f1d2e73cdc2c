// Bump allocation out of OpContext::scratch: each op starts at its beginning and takes what it needs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"

namespace gantry {

class Scratch {
 public:
  static constexpr size_t kAlignment = 64;

  explicit Scratch(std::span<std::byte> bytes) : bytes_(bytes) {}

  // The bytes that take<T>(count) consumes: what scratch_bytes() sums.
  template <typename T>
  static size_t size_of(int64_t count) {
    return (static_cast<size_t>(count) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
  }

  template <typename T>
  T* take(int64_t count) {
    const size_t size = size_of<T>(count);
    GANTRY_CHECK(size <= bytes_.size() - used_)
        << "scratch of " << bytes_.size() << " bytes is too small: " << used_ << " used, " << size
        << " wanted";
    T* result = reinterpret_cast<T*>(bytes_.data() + used_);
    used_ += size;
    return result;
  }

 private:
  std::span<std::byte> bytes_;
  size_t used_ = 0;
};

}  // namespace gantry

// Shapes and non-owning views. A view is row-major and contiguous: the last dimension is the fastest.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>

#include "base/limits.h"
#include "tensor/dtype.h"

namespace gantry {

class Shape {
 public:
  Shape() = default;
  // At most limits::kTensorRankMax dimensions, each >= 0.
  Shape(std::initializer_list<int64_t> dims);
  // For dimensions that come from a file: empty when there are more than limits::kTensorRankMax or when their
  // product is over 2^62 (dimensions of 0 left out of the product), so that elements() cannot overflow.
  static std::optional<Shape> checked(std::span<const uint64_t> dims);

  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[static_cast<size_t>(i)]; }
  int64_t elements() const;       // 1 for rank 0
  std::string to_string() const;  // "[576, 192]"
  bool operator==(const Shape&) const = default;

 private:
  std::array<int64_t, limits::kTensorRankMax> dims_{};
  int rank_ = 0;
};

struct TensorView {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;

  uint64_t bytes() const { return bytes_of(dtype, static_cast<uint64_t>(shape.elements())).value_or(0); }
  template <typename T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
};

}  // namespace gantry

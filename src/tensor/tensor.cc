#include "tensor/tensor.h"

#include "base/check.h"

namespace gantry {

Shape::Shape(std::initializer_list<int64_t> dims) {
  GANTRY_CHECK(dims.size() <= dims_.size());
  for (const int64_t dim : dims) {
    GANTRY_CHECK(dim >= 0);
    dims_[static_cast<size_t>(rank_++)] = dim;
  }
}

std::optional<Shape> Shape::checked(std::span<const uint64_t> dims) {
  Shape shape;
  if (dims.size() > shape.dims_.size()) return std::nullopt;
  constexpr uint64_t kProductMax = uint64_t{1} << 62;
  uint64_t product = 1;
  for (const uint64_t dim : dims) {
    if (dim > kProductMax / product) return std::nullopt;
    if (dim > 0) product *= dim;
    shape.dims_[static_cast<size_t>(shape.rank_++)] = static_cast<int64_t>(dim);
  }
  return shape;
}

int64_t Shape::elements() const {
  int64_t product = 1;
  for (int i = 0; i < rank_; ++i) product *= dims_[static_cast<size_t>(i)];
  return product;
}

std::string Shape::to_string() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) text += (i ? ", " : "") + std::to_string((*this)[i]);
  return text + "]";
}

}  // namespace gantry

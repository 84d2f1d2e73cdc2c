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

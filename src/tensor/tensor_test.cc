#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <vector>

namespace gantry {
namespace {

std::optional<Shape> checked(std::vector<uint64_t> dims) { return Shape::checked(dims); }

TEST(Shape, CheckedTakesWhatFits) {
  EXPECT_EQ(checked({}), Shape());
  EXPECT_EQ(checked({3, 5}), (Shape{3, 5}));
  EXPECT_EQ(checked({0, 7}), (Shape{0, 7}));
  EXPECT_EQ(checked({1ull << 31, 1ull << 31})->elements(), int64_t{1} << 62);
}

TEST(Shape, CheckedRefusesRankAndOverflow) {
  EXPECT_FALSE(checked({1, 1, 1, 1, 1}));
  EXPECT_FALSE(checked({1ull << 63}));
  EXPECT_FALSE(checked({1ull << 32, 1ull << 32}));
  // A zero must not hide the overflow of the other dimensions: every partial product stays in range.
  EXPECT_FALSE(checked({0, 1ull << 32, 1ull << 32}));
}

TEST(BytesOf, BlocksAreWhole) {
  EXPECT_EQ(bytes_of(DType::kQ4_K, 512), 288u);
  EXPECT_EQ(bytes_of(DType::kQ4_K, 511), std::nullopt);
  EXPECT_EQ(bytes_of(DType::kF32, 1ull << 62), std::nullopt);
}

}  // namespace
}  // namespace gantry

#include "base/nearest.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

namespace gantry {
namespace {

constexpr std::array<std::string_view, 4> kWords{"rope_theta", "rope_scaling", "hidden_size", "head_dim"};

TEST(Nearest, FindsTheLeastDistance) {
  EXPECT_EQ(nearest("rope_teta", kWords), "rope_theta");
  EXPECT_EQ(nearest("hiddn_sizes", kWords), "hidden_size");
  EXPECT_EQ(nearest("headdim", kWords), "head_dim");
}

TEST(Nearest, SaysNothingWhenAllAreFar) {
  EXPECT_EQ(nearest("embedding_multiplier", kWords), "");
  EXPECT_EQ(nearest("", kWords), "");
  EXPECT_EQ(nearest("x", {}), "");
  EXPECT_EQ(nearest(std::string(100'000, 'r'), kWords), "");
}

}  // namespace
}  // namespace gantry

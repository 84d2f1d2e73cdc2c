#include "kernels/ops/round_activations.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace gantry {
namespace {

TEST(RoundActivations, EachBlockOf128HasItsOwnScale) {
  std::vector<float> x(130, 0.0f), y(130, -1.0f);
  x[0] = 448.0f;
  x[1] = 17.0f;      // between 16 and 18: a tie goes to the even code
  x[2] = -0.00001f;  // far below the scale's smallest step
  x[128] = 3.0f;
  x[129] = -1.0f;
  round_activations(x, Compute::kF8, y);
  EXPECT_EQ(y[0], 448.0f);
  EXPECT_EQ(y[1], 16.0f);
  EXPECT_EQ(y[2], 0.0f);
  EXPECT_EQ(y[3], 0.0f);
  EXPECT_FLOAT_EQ(y[128], 3.0f);
  EXPECT_NEAR(y[129], -1.0f, 1.0f / 16);
  EXPECT_NE(y[129], -1.0f);  // 149.3 in units of the scale
}

TEST(RoundActivations, PowersOfTwoRoundTheScaleUp) {
  const std::vector<float> x = {3.0f, -1.0f, 0.4f};
  std::vector<float> y(3);
  round_activations(x, Compute::kF8PowerOfTwo, y);  // 3 / 448 becomes 2^-7
  EXPECT_EQ(y[0], 3.0f);
  EXPECT_EQ(y[1], -1.0f);
  EXPECT_EQ(y[2], 52.0f / 128);
}

TEST(RoundActivations, ZerosAndNansStay) {
  std::vector<float> x(4, 0.0f);
  round_activations(x, Compute::kF8, x);
  EXPECT_EQ(x[3], 0.0f);
  x[1] = NAN;
  x[2] = 1.0f;
  round_activations(x, Compute::kF8, x);
  EXPECT_TRUE(std::isnan(x[1]));
  EXPECT_EQ(x[2], 1.0f);
}

}  // namespace
}  // namespace gantry

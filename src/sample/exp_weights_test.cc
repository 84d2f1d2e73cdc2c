#include "sample/exp_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "sample/candidates.h"

namespace gantry {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> random_row(size_t vocab, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 4);
  std::vector<float> row(vocab);
  for (float& x : row) x = normal(random);
  return row;
}

TEST(ExpWeights, ExpIsAccurateAndZeroForMaskedTokens) {
  for (float x = 0; x > -87; x -= 0.0137f) {
    const double exact = std::exp(static_cast<double>(x));
    EXPECT_NEAR(exp_weight(x, 0, 1) / exact, 1, 2e-7) << x;
  }
  EXPECT_EQ(exp_weight(0, 0, 1), 1.0f);
  EXPECT_EQ(exp_weight(-kInfinity, 0, 1), 0.0f);
  EXPECT_EQ(exp_weight(-88, 0, 1), 0.0f);
  EXPECT_EQ(exp_weight(-std::numeric_limits<float>::max(), 3, 1e4f), 0.0f);
}

TEST(ExpWeights, SumsAgreeWithDoublePrecisionForRaggedSizes) {
  for (const size_t vocab : {1u, 15u, 16u, 17u, 63u, 64u, 65u, 100u, 1000u, 49'152u}) {
    const std::vector<float> row = random_row(vocab, vocab);
    const float max = *std::max_element(row.begin(), row.end());
    double exact = 0;
    for (const float x : row) exact += std::exp((static_cast<double>(x) - max) * 0.7);
    std::vector<float> weights(vocab);
    std::vector<double> sums(static_cast<size_t>(logit_blocks(static_cast<int64_t>(vocab))));
    const double sum = exp_weights(row, max, 0.7f, weights, sums);
    EXPECT_NEAR(sum / exact, 1, 1e-6) << vocab;
    EXPECT_EQ(sum, exp_sum(row, max, 0.7f)) << vocab;
    for (size_t i = 0; i < vocab; ++i) EXPECT_EQ(weights[i], exp_weight(row[i], max, 0.7f));
  }
}

}  // namespace
}  // namespace gantry

#include "sample/logits_math.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace gantry {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> random_row(size_t vocab, uint64_t seed, bool ties = false) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 4);
  std::vector<float> row(vocab);
  for (float& x : row) x = ties ? std::round(normal(random)) : normal(random);
  return row;
}

TEST(LogitsMath, ExpIsAccurateAndZeroForMaskedTokens) {
  for (float x = 0; x > -87; x -= 0.0137f) {
    const double exact = std::exp(static_cast<double>(x));
    EXPECT_NEAR(exp_weight(x, 0, 1) / exact, 1, 2e-7) << x;
  }
  EXPECT_EQ(exp_weight(0, 0, 1), 1.0f);
  EXPECT_EQ(exp_weight(-kInfinity, 0, 1), 0.0f);
  EXPECT_EQ(exp_weight(-88, 0, 1), 0.0f);
  EXPECT_EQ(exp_weight(-std::numeric_limits<float>::max(), 3, 1e4f), 0.0f);
}

TEST(LogitsMath, SumsAgreeWithDoublePrecisionForRaggedSizes) {
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

TEST(LogitsMath, BlockMaximaFindWhatIsNotFinite) {
  for (const size_t vocab : {1u, 63u, 130u}) {
    std::vector<float> row = random_row(vocab, 1);
    std::vector<float> maxima(static_cast<size_t>(logit_blocks(static_cast<int64_t>(vocab))));
    ASSERT_TRUE(block_maxima(row, maxima));
    for (size_t b = 0; b < maxima.size(); ++b) {
      const auto begin = row.begin() + static_cast<std::ptrdiff_t>(b * kLogitBlock);
      const auto end = row.begin() + static_cast<std::ptrdiff_t>(std::min(vocab, (b + 1) * kLogitBlock));
      EXPECT_EQ(maxima[b], *std::max_element(begin, end));
    }
    for (size_t i = 0; i < vocab; ++i) {
      const float kept = row[i];
      for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity}) {
        row[i] = bad;
        EXPECT_FALSE(block_maxima(row, maxima)) << i;
      }
      row[i] = -kInfinity;
      EXPECT_TRUE(block_maxima(row, maxima));
      row[i] = kept;
    }
  }
}

TEST(LogitsMath, BestCandidatesAreThoseOfAFullSort) {
  for (const bool ties : {false, true}) {
    for (const size_t vocab : {1u, 64u, 200u, 5000u}) {
      const std::vector<float> row = random_row(vocab, vocab, ties);
      std::vector<float> maxima(static_cast<size_t>(logit_blocks(static_cast<int64_t>(vocab))));
      std::vector<float> scratch(maxima.size());
      ASSERT_TRUE(block_maxima(row, maxima));
      std::vector<Candidate> sorted;
      for (size_t i = 0; i < vocab; ++i) sorted.push_back({row[i], static_cast<TokenId>(i)});
      std::sort(sorted.begin(), sorted.end(), better);
      std::vector<Candidate> best;
      for (const int64_t count : {1, 2, 7, 20, 79, 200, 100'000}) {
        best_candidates(row, maxima, scratch, count, best);
        ASSERT_EQ(best.size(), std::min(vocab, static_cast<size_t>(count)));
        for (size_t i = 0; i < best.size(); ++i) EXPECT_EQ(best[i].id, sorted[i].id) << count << " " << i;
      }
      candidates_from(row, maxima, 3.0f, best);
      EXPECT_EQ(static_cast<std::ptrdiff_t>(best.size()),
                std::count_if(row.begin(), row.end(), [](float x) { return x >= 3.0f; }));
      for (size_t i = 0; i < best.size(); ++i) EXPECT_EQ(best[i].id, sorted[i].id);
    }
  }
}

}  // namespace
}  // namespace gantry

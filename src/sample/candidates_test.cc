#include "sample/candidates.h"

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

TEST(Candidates, BlockMaximaFindWhatIsNotFinite) {
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

TEST(Candidates, BestCandidatesAreThoseOfAFullSort) {
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
      for (size_t i = 1; i < best.size(); ++i) EXPECT_LT(best[i - 1].id, best[i].id);
      std::sort(best.begin(), best.end(), better);
      for (size_t i = 0; i < best.size(); ++i) EXPECT_EQ(best[i].id, sorted[i].id);
    }
  }
}

}  // namespace
}  // namespace gantry

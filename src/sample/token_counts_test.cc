#include "sample/token_counts.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace gantry {
namespace {

TEST(TokenCounts, CountsLikeAMap) {
  for (const size_t reserved : {0u, 500u}) {
    std::mt19937_64 random(reserved);
    TokenCounts counts;
    counts.reserve(reserved);
    std::map<TokenId, int32_t> expected;
    for (int i = 0; i < 5000; ++i) {
      const auto id = static_cast<TokenId>(random() % 400 * 4096);  // many with the same low bits
      if (random() % 3 == 0) {
        counts.add_prompt(id);
        expected[id] += 0;
      } else {
        counts.add_generated(id);
        ++expected[id];
      }
    }
    std::map<TokenId, int32_t> found;
    for (const TokenCounts::Entry& entry : counts.entries()) {
      EXPECT_TRUE(found.emplace(entry.id, entry.generated).second) << entry.id;
    }
    EXPECT_EQ(found, expected);
  }
}

}  // namespace
}  // namespace gantry

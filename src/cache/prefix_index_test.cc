#include "cache/prefix_index.h"

#include <gtest/gtest.h>

#include <numeric>

namespace gantry {
namespace {

using Tokens = std::array<TokenId, limits::kKvBlockTokens>;

Tokens tokens(TokenId first) {
  Tokens t;
  std::iota(t.begin(), t.end(), first);
  return t;
}

TEST(PrefixIndex, FindsABlockOnlyAfterTheSamePrefixAndSalt) {
  PrefixIndex index(4, 1);
  const BlockHash root = index.root("tenant");
  const Tokens first = tokens(0);
  const Tokens second = tokens(100);
  const BlockHash a = index.chain(root, first);
  const BlockHash b = index.chain(a, second);
  EXPECT_TRUE(index.publish(a, root, first, BlockId{2}));
  EXPECT_TRUE(index.publish(b, a, second, BlockId{3}));
  EXPECT_EQ(index.find(a, root, first), BlockId{2});
  EXPECT_EQ(index.find(b, a, second), BlockId{3});
  EXPECT_FALSE(index.find(index.chain(root, second), root, second).has_value());
  const BlockHash other = index.root("another tenant");
  EXPECT_FALSE(index.find(index.chain(other, first), other, first).has_value());
}

TEST(PrefixIndex, TheFirstBlockOfTwoWithTheSameTokensStays) {
  PrefixIndex index(4, 1);
  const BlockHash root = index.root("");
  const Tokens t = tokens(0);
  const BlockHash hash = index.chain(root, t);
  EXPECT_TRUE(index.publish(hash, root, t, BlockId{0}));
  EXPECT_FALSE(index.publish(hash, root, t, BlockId{1}));
  index.forget(BlockId{1});
  EXPECT_EQ(index.find(hash, root, t), BlockId{0});
  index.forget(BlockId{0});
  index.forget(BlockId{0});
  EXPECT_FALSE(index.find(hash, root, t).has_value());
  EXPECT_EQ(index.size(), 0u);
}

TEST(PrefixIndex, ACollisionIsAMiss) {
  PrefixIndex index(4, 1);
  const BlockHash root = index.root("");
  const BlockHash hash = index.chain(root, tokens(0));
  EXPECT_TRUE(index.publish(hash, root, tokens(0), BlockId{0}));
  EXPECT_FALSE(index.find(hash, root, tokens(5)).has_value());
  EXPECT_FALSE(index.find(hash, index.root("x"), tokens(0)).has_value());
}

TEST(PrefixIndex, TheSeedChangesEveryHash) {
  EXPECT_NE(PrefixIndex(1, 1).root(""), PrefixIndex(1, 2).root(""));
}

}  // namespace
}  // namespace gantry

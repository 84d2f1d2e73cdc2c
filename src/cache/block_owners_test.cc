// Whose cached blocks are taken, and how many are left to others.
#include <gtest/gtest.h>

#include <map>

#include "cache/block_pool.h"

namespace gantry {
namespace {

constexpr BlockPool::Owner kSmall = 1;
constexpr BlockPool::Owner kFlood = 2;

class BlockOwnersTest : public testing::Test {
 protected:
  // Takes a block and gives it back as this owner's.
  BlockId use(BlockPool::Owner owner) {
    const BlockId block = *pool_.allocate();
    pool_.release(block, Ticket{}, owner);
    return block;
  }
  void fill(int32_t small, int32_t flood) {
    std::vector<std::pair<BlockId, BlockPool::Owner>> taken;
    for (int32_t i = 0; i < small + flood; ++i)
      taken.emplace_back(*pool_.allocate(), i < small ? kSmall : kFlood);
    for (const auto& [block, owner] : taken) {
      pool_.release(block, Ticket{}, owner);
      owners_[block.value] = owner;
    }
  }
  BlockPool::Owner take() { return owners_[pool_.allocate()->value]; }

  BlockPool pool_{16};
  std::map<int32_t, BlockPool::Owner> owners_;
};

TEST_F(BlockOwnersTest, BlocksWithoutUseAreTakenFirst) {
  fill(4, 8);  // the other four are nobody's
  for (int i = 0; i < 4; ++i) EXPECT_EQ(take(), BlockPool::kNobody);
  EXPECT_NE(take(), BlockPool::kNobody);
  EXPECT_EQ(pool_.audit(), "");
}

TEST_F(BlockOwnersTest, WhoHasMoreThanAnEqualShareLosesTheOldest) {
  fill(4, 12);  // the small one's are older
  for (int i = 0; i < 8; ++i) EXPECT_EQ(take(), kFlood);
  // Four each: the oldest of all.
  EXPECT_EQ(take(), kSmall);
  EXPECT_EQ(pool_.audit(), "");
}

TEST_F(BlockOwnersTest, OthersKeepHalfAnEqualShare) {
  fill(3, 13);
  EXPECT_EQ(pool_.kept_for_others(kFlood), 3);
  EXPECT_EQ(pool_.kept_for_others(kSmall), 4) << "of 13";
  EXPECT_EQ(pool_.kept_for_others(3), 2 + 2) << "a third of 16, halved, of each";
}

TEST_F(BlockOwnersTest, WhoHasGoneKeepsNothing) {
  fill(3, 13);
  for (int i = 0; i < 4 * pool_.total() - 13; ++i) use(kFlood);
  EXPECT_EQ(pool_.kept_for_others(kFlood), 3);
  use(kFlood);
  EXPECT_EQ(pool_.kept_for_others(kFlood), 0);
}

}  // namespace
}  // namespace gantry

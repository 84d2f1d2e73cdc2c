// Whose cached blocks are taken, and how many are left to others.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <utility>
#include <vector>

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
  // Whose block the next one was.
  BlockPool::Owner take(BlockPool::Owner owner = BlockPool::kNobody) {
    return owners_[pool_.allocate(owner)->value];
  }

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
  EXPECT_EQ(pool_.kept_for_others(3), 5) << "two thirds of 16, halved";
}

TEST_F(BlockOwnersTest, HeldBlocksCount) {
  fill(4, 12);
  for (int i = 0; i < 7; ++i) {
    const BlockId block = *pool_.allocate(kFlood);
    EXPECT_EQ(owners_[block.value], kFlood);
  }
  // Five of the flood's are free and seven held, four of the small one's are free.
  for (int i = 0; i < 5; ++i) EXPECT_EQ(take(kFlood), kFlood);
  EXPECT_EQ(take(kFlood), kSmall) << "the flood has none left to give";
  EXPECT_EQ(pool_.audit(), "");
}

TEST_F(BlockOwnersTest, AnyTrafficKeepsTheBooks) {
  std::mt19937_64 random(5);
  std::vector<BlockId> held;
  uint64_t ticket = 1;
  for (int i = 0; i < 20'000; ++i) {
    // Now few owners, now more than there are blocks.
    const BlockPool::Owner owner = random() % (i % 2000 < 1000 ? 3 : 40);
    if (random() % 2 == 0 && pool_.available() > 0) {
      held.push_back(*pool_.allocate(owner));
    } else if (!held.empty()) {
      std::swap(held[random() % held.size()], held.back());
      pool_.release(held.back(), Ticket{random() % 3 == 0 ? ticket + 1 : 0}, owner);
      held.pop_back();
    }
    if (random() % 4 == 0) pool_.retire(Ticket{++ticket});
    ASSERT_EQ(pool_.audit(), "") << i;
    ASSERT_LE(pool_.kept_for_others(owner), pool_.available());
  }
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

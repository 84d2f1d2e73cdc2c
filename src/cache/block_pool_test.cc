#include "cache/block_pool.h"

#include <gtest/gtest.h>

#include <random>

namespace gantry {
namespace {

TEST(BlockPool, GivesEachBlockOnceAndTheLongestFreeFirst) {
  BlockPool pool(3);
  const BlockId a = *pool.allocate();
  const BlockId b = *pool.allocate();
  const BlockId c = *pool.allocate();
  EXPECT_NE(a, b);
  EXPECT_NE(b, c);
  EXPECT_NE(a, c);
  EXPECT_FALSE(pool.allocate().has_value());
  pool.release(b, Ticket{});
  pool.release(a, Ticket{});
  EXPECT_EQ(pool.available(), 2);
  EXPECT_EQ(*pool.allocate(), b);
  EXPECT_EQ(*pool.allocate(), a);
  EXPECT_EQ(pool.audit(), "");
}

TEST(BlockPool, SharedUntilTheLastReference) {
  BlockPool pool(1);
  const BlockId a = *pool.allocate();
  pool.retain(a);
  pool.release(a, Ticket{});
  EXPECT_EQ(pool.available(), 0);
  pool.release(a, Ticket{});
  EXPECT_EQ(pool.available(), 1);
}

TEST(BlockPool, ABlockInFlightReturnsWhenItsTicketRetires) {
  BlockPool pool(1);
  const BlockId a = *pool.allocate();
  pool.release(a, Ticket{2});
  EXPECT_EQ(pool.available(), 0);
  EXPECT_FALSE(pool.allocate().has_value());
  EXPECT_EQ(pool.returning(), 1);
  pool.retire(Ticket{1});
  EXPECT_EQ(pool.available(), 0);
  EXPECT_EQ(pool.audit(), "");
  pool.retire(Ticket{2});
  EXPECT_EQ(pool.available(), 1);
  EXPECT_EQ(pool.audit(), "");
}

TEST(BlockPool, TheNewestTicketOfAnyHolderCounts) {
  BlockPool pool(1);
  const BlockId a = *pool.allocate();
  pool.retain(a);
  pool.release(a, Ticket{5});
  pool.release(a, Ticket{3});
  pool.retire(Ticket{4});
  EXPECT_EQ(pool.available(), 0);
  pool.retire(Ticket{5});
  EXPECT_EQ(pool.available(), 1);
}

TEST(BlockPool, AHitTakesABlockBackFromTheFreeListOrFromLimbo) {
  BlockPool pool(2);
  const BlockId a = *pool.allocate();
  pool.release(a, Ticket{});
  pool.retain(a);
  EXPECT_EQ(pool.available(), 1);
  EXPECT_EQ(pool.audit(), "");
  pool.release(a, Ticket{3});
  pool.retain(a);  // from limbo
  pool.retire(Ticket{3});
  EXPECT_EQ(pool.references(a), 1);
  EXPECT_EQ(pool.available(), 1);
  pool.release(a, Ticket{3});
  EXPECT_EQ(pool.available(), 2);
  pool.retain(a);
  pool.release(a, Ticket{9});
  pool.retain(a);
  pool.release(a, Ticket{8});  // listed in limbo once, not twice
  EXPECT_EQ(pool.audit(), "");
  pool.retire(Ticket{9});
  EXPECT_EQ(pool.available(), 2);
  EXPECT_EQ(pool.audit(), "");
}

TEST(BlockPoolDeathTest, ReleasingTwiceIsOurBug) {
  BlockPool pool(1);
  const BlockId a = *pool.allocate();
  pool.release(a, Ticket{});
  EXPECT_DEATH(pool.release(a, Ticket{}), "released once too often");
}

TEST(BlockPool, RandomUseKeepsTheBooks) {
  std::mt19937_64 random(1);
  BlockPool pool(16);
  std::vector<BlockId> held;
  uint64_t ticket = 0;
  uint64_t retired = 0;
  for (int step = 0; step < 20'000; ++step) {
    switch (random() % 4) {
      case 0:
        if (const auto block = pool.allocate()) {
          EXPECT_EQ(pool.references(*block), 1);
          held.push_back(*block);
        }
        break;
      case 1:
        if (!held.empty()) {
          held.push_back(held[random() % held.size()]);
          pool.retain(held.back());
        }
        break;
      case 2:
        if (!held.empty()) {
          std::swap(held[random() % held.size()], held.back());
          ticket += random() % 2;
          pool.release(held.back(), Ticket{ticket - random() % (ticket - retired + 1)});
          held.pop_back();
        }
        break;
      default:
        retired += random() % (ticket - retired + 1);
        pool.retire(Ticket{retired});
    }
    ASSERT_EQ(pool.audit(), "") << "step " << step;
  }
  while (!held.empty()) {
    pool.release(held.back(), Ticket{});
    held.pop_back();
  }
  pool.retire(Ticket{ticket});
  EXPECT_EQ(pool.available(), pool.total());
}

}  // namespace
}  // namespace gantry

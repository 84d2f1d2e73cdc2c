#include "sched/policy.h"

#include <gtest/gtest.h>

namespace gantry {
namespace {

TEST(ChunkPolicy, FillsTheBudgetWhereNobodyWaits) {
  const ChunkLimits limits{.rows_beside_decodes = 64, .context_per_row = 100};
  EXPECT_EQ(chunk_spares_decodes({.wanted = 500, .budget = 300}, limits), 300);
  EXPECT_EQ(chunk_spares_decodes({.wanted = 200, .budget = 300}, limits), 200);
  EXPECT_EQ(chunk_spares_decodes({.wanted = 500, .budget = 300, .decodes = true}, {}), 300);
}

TEST(ChunkPolicy, BesideDecodesAPromptTakesHalfAndLessTheDeeperItIs) {
  const ChunkLimits limits{.rows_beside_decodes = 256, .context_per_row = 3456};
  int32_t before = 129;
  for (const int32_t position : {0, 1000, 4000, 8000}) {
    const int32_t rows =
        chunk_spares_decodes({.wanted = 8000, .budget = 2048, .position = position, .decodes = true}, limits);
    EXPECT_LT(rows, before) << position;
    EXPECT_GT(rows, 0);
    EXPECT_LE(chunk_cost(position, rows, limits), 128);
    EXPECT_GT(chunk_cost(position, rows + 1, limits), 128);
    before = rows;
  }
  // The other half is for whoever comes after it.
  EXPECT_GE(chunk_spares_decodes({.wanted = 100, .budget = 2048, .decodes = true, .spent = 128}, limits), 90);
  EXPECT_EQ(chunk_spares_decodes({.wanted = 100, .budget = 2048, .decodes = true, .spent = 256}, limits), 0);
}

TEST(ChunkPolicy, APromptAlwaysGetsOn) {
  EXPECT_EQ(chunk_spares_decodes({.wanted = 9, .budget = 9, .position = 1 << 28, .decodes = true},
                                 {.rows_beside_decodes = 1, .context_per_row = 1}),
            1);
}

TEST(ChunkPolicy, CostsAddUp) {
  const ChunkLimits limits{.rows_beside_decodes = 1, .context_per_row = 10};
  EXPECT_EQ(chunk_cost(0, 10, limits), 15);
  EXPECT_EQ(chunk_cost(100, 10, limits), 115);
  EXPECT_EQ(chunk_cost(100, 10, {}), 10);
}

}  // namespace
}  // namespace gantry

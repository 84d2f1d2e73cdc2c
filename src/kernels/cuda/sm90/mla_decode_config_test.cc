#include <gtest/gtest.h>

#include "kernels/cuda/sm90/mla_decode.h"

namespace gantry::sm90 {
namespace {

constexpr int kSmCount = 132;

TEST(MlaDecodeConfig, FitsTheMachineForEveryBatch) {
  for (const int heads : {1, 16, 64, 65, 128}) {
    for (int batch = 1; batch <= 256; ++batch) {
      for (const int context : {1, 64, 65, 4096, 163840}) {
        const MlaDecodeConfig c = choose_mla_decode({batch, heads, context}, kSmCount);
        EXPECT_GE(c.head_tiles * kMlaHeads, heads);
        EXPECT_LE(c.smem_bytes, 227 << 10);
        EXPECT_GE(c.splits, 1);
        EXPECT_LE(c.splits, 64) << "the merge holds 64 weights";
        EXPECT_LE(c.splits, (context + kMlaTokens - 1) / kMlaTokens)
            << "a part without tokens in every sequence";
      }
    }
  }
}

TEST(MlaDecodeConfig, SplitsUntilTheMachineIsFull) {
  EXPECT_EQ(choose_mla_decode({128, 128, 4096}, kSmCount).splits, 1);  // 256 tiles already
  EXPECT_EQ(choose_mla_decode({32, 128, 4096}, kSmCount).splits, 2);   // 64 tiles
  EXPECT_GT(choose_mla_decode({1, 128, 4096}, kSmCount).splits, 8);    // 2 tiles
  EXPECT_EQ(choose_mla_decode({1, 128, 64}, kSmCount).splits, 1);      // one block of context
}

TEST(MlaDecodeConfig, RefusesEmptyShapes) {
  EXPECT_EQ(choose_mla_decode({0, 128, 4096}, kSmCount).head_tiles, 0);
  EXPECT_EQ(choose_mla_decode({1, 0, 4096}, kSmCount).head_tiles, 0);
  EXPECT_EQ(choose_mla_decode({1, 128, 0}, kSmCount).head_tiles, 0);
}

}  // namespace
}  // namespace gantry::sm90

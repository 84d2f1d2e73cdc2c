#include <gtest/gtest.h>

#include "kernels/cuda/sm90/prefill_gemm.h"

namespace gantry::sm90 {
namespace {

constexpr int kSmCount = 132;
constexpr int kSmemMax = 227 << 10;

TEST(PrefillGemmConfig, FitsTheMachineForEveryShape) {
  for (const int m : {1, 128, 129, 512, 4096, 163840}) {
    for (const int n : {8, 64, 128, 2112, 7168, 24576, 129280}) {
      for (const int k : {128, 1536, 18432}) {
        const PrefillGemmConfig c = choose_prefill_gemm({m, n, k}, kSmCount);
        EXPECT_TRUE(c.columns == 128 || c.columns == 256);
        EXPECT_GE(c.stages, 3) << "two stages in flight beside the one that is multiplied";
        EXPECT_LE(c.smem_bytes, kSmemMax);
        EXPECT_GE(c.band, 1);
      }
    }
  }
}

TEST(PrefillGemmConfig, GateAndUpShareATile) {
  EXPECT_EQ(choose_prefill_gemm({.m = 256, .n = 256, .k = 1024, .swiglu = true}, kSmCount).columns, 256);
  EXPECT_EQ(choose_prefill_gemm({4096, 4096, 7168, 257, true}, kSmCount).columns, 256);
}

TEST(PrefillGemmConfig, NarrowTilesWhereWideOnesLeaveTheMachineIdle) {
  EXPECT_EQ(choose_prefill_gemm({512, 2112, 7168}, kSmCount).columns, 128);    // 36 wide tiles
  EXPECT_EQ(choose_prefill_gemm({4096, 24576, 1536}, kSmCount).columns, 256);  // 3072 of them
}

TEST(PrefillGemmConfig, LeavesFewRowsToTheDecodeGemm) {
  EXPECT_FALSE(takes_prefill_gemm({128, 7168, 2048}));
  EXPECT_TRUE(takes_prefill_gemm({512, 7168, 2048}));
  EXPECT_FALSE(takes_prefill_gemm({512, 7168, 2000}));
}

TEST(PrefillGemmConfig, RefusesShapesItHasNoTileFor) {
  EXPECT_EQ(choose_prefill_gemm({0, 128, 128}, kSmCount).columns, 0);
  EXPECT_EQ(choose_prefill_gemm({128, 12, 128}, kSmCount).columns, 0);
  EXPECT_EQ(choose_prefill_gemm({128, 128, 64}, kSmCount).columns, 0);
  EXPECT_EQ(choose_prefill_gemm({128, 384, 128, 1, true}, kSmCount).columns, 0);  // 192 columns of gate
}

}  // namespace
}  // namespace gantry::sm90

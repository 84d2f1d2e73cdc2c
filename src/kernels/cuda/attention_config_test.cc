#include "kernels/cuda/attention_config.h"

#include <gtest/gtest.h>

namespace gantry::cuda {
namespace {

constexpr int kSmCount = 132;

TEST(CudaAttentionConfig, TilesCoverTheGroup) {
  for (const int kv_heads : {1, 3, 8}) {
    for (const int group : {1, 2, 3, 7, 8, 9, 128}) {
      const AttentionConfig c = choose_attention({1, group * kv_heads, kv_heads, 64, 100}, kSmCount);
      EXPECT_GE(c.tiles * c.head_tile, group);
      EXPECT_LT((c.tiles - 1) * c.head_tile, group) << "a tile without heads";
      EXPECT_EQ(c.partitions, 1);
    }
  }
}

TEST(CudaAttentionConfig, FewRowsSplitTheContext) {
  EXPECT_EQ(choose_attention({1, 9, 3, 64, 2048}, kSmCount).partitions, 8);
  EXPECT_EQ(choose_attention({1, 9, 3, 64, 2049}, kSmCount).partitions, 9);
  EXPECT_EQ(choose_attention({1, 9, 3, 64, 256}, kSmCount).partitions, 1);
  EXPECT_EQ(choose_attention({512, 9, 3, 64, 2048}, kSmCount).partitions, 1);
}

TEST(CudaAttentionConfig, PartialSumsFitTheirBuffer) {
  for (const int64_t rows : {1, 4, 16, 64, 2048}) {
    for (const int64_t context : {300, 4096, 163840}) {
      for (const auto& [heads, kv_heads, value] : {std::tuple{9, 3, 64}, {32, 8, 128}, {128, 1, 512}}) {
        const AttentionConfig c = choose_attention({rows, heads, kv_heads, value, context}, kSmCount);
        if (c.partitions > 1) {
          EXPECT_LE(rows * heads * c.partitions * (value + 2), kAttentionPartialFloatsMax);
        }
      }
    }
  }
}

TEST(CudaAttentionConfig, RefusesEmptyShapes) {
  EXPECT_EQ(choose_attention({0, 9, 3, 64, 10}, kSmCount).head_tile, 0);
  EXPECT_EQ(choose_attention({1, 2, 3, 64, 10}, kSmCount).head_tile, 0);
  EXPECT_EQ(choose_attention({1, 9, 3, 64, 0}, kSmCount).head_tile, 0);
}

}  // namespace
}  // namespace gantry::cuda

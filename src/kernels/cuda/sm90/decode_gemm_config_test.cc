#include <gtest/gtest.h>

#include <vector>

#include "kernels/cuda/sm90/decode_gemm.h"

namespace gantry::sm90 {
namespace {

constexpr int kSmCount = 132;
constexpr int kSmemMax = 227 << 10;

// R1's projections, a TP8 shard's, SmolLM2's and ragged ones.
std::vector<DecodeGemmShape> shapes() {
  std::vector<DecodeGemmShape> all;
  for (const int m : {1, 2, 8, 9, 32, 33, 64, 65, 128}) {
    for (const auto& [n, k] : {std::pair{2112, 7168},
                               {24576, 1536},
                               {7168, 16384},
                               {4096, 7168},
                               {7168, 2048},
                               {36864, 7168},
                               {7168, 18432},
                               {3072, 1536},
                               {7168, 256},
                               {8, 128},
                               {200, 1152}}) {
      all.push_back({m, n, k, GemmType::kE4m3});
    }
    for (const auto& [n, k] : {std::pair{256, 7168}, {960, 576}, {576, 1536}, {129280, 7168}, {8, 64}}) {
      all.push_back({m, n, k, GemmType::kBf16});
    }
  }
  return all;
}

TEST(DecodeGemmConfig, FitsTheKernelAndTheMachine) {
  for (const DecodeGemmShape& s : shapes()) {
    const DecodeGemmConfig c = choose_decode_gemm(s, kSmCount);
    ASSERT_GE(c.tokens, s.m);
    EXPECT_LE(c.tokens, s.m <= 8 ? 8 : 2 * s.m);
    EXPECT_TRUE(c.rows == 64 || c.rows == 128);
    EXPECT_TRUE(c.split == 1 || c.split == 2 || c.split == 4 || c.split == 8);
    EXPECT_LE(c.split, k_blocks(s)) << "a part without work";
    EXPECT_GE(c.stages, 2);
    EXPECT_EQ(c.smem_bytes, decode_gemm_smem_bytes(c));
    EXPECT_LE(c.smem_bytes, kSmemMax) << s.m << " x " << s.n << " x " << s.k << " " << to_string(c);
  }
}

// What the sweep on an H100 found best, or within 4% of it.
TEST(DecodeGemmConfig, KnowsR1sShapes) {
  const auto choice = [](int m, int n, int k) {
    const DecodeGemmConfig c = choose_decode_gemm({m, n, k}, kSmCount);
    return std::vector<int>{c.rows, c.split};
  };
  EXPECT_EQ(choice(1, 2112, 7168), (std::vector<int>{64, 8}));    // q_a + kv_a: 33 tiles starve the memory
  EXPECT_EQ(choice(1, 24576, 1536), (std::vector<int>{64, 1}));   // q_b
  EXPECT_EQ(choice(1, 7168, 16384), (std::vector<int>{64, 2}));   // o_proj
  EXPECT_EQ(choice(8, 4096, 7168), (std::vector<int>{64, 4}));    // shared gate + up
  EXPECT_EQ(choice(8, 7168, 2048), (std::vector<int>{64, 1}));    // shared down: too short to split
  EXPECT_EQ(choice(32, 7168, 18432), (std::vector<int>{64, 2}));  // dense down
  EXPECT_EQ(choice(128, 24576, 1536), (std::vector<int>{128, 1}));
  EXPECT_EQ(choice(128, 7168, 16384), (std::vector<int>{64, 2}));
}

TEST(DecodeGemmConfig, RowInvariantSplitsByWeightAlone) {
  for (const auto& [n, k] : {std::pair{960, 576}, {576, 1536}, {3072, 576}, {49152, 576}, {2112, 7168}}) {
    const DecodeGemmConfig one = choose_row_invariant_gemm({1, n, k, GemmType::kBf16}, kSmCount);
    for (const int m : {1, 8, 9, 70, 128, 129, 2048}) {
      const DecodeGemmConfig c = choose_row_invariant_gemm({m, n, k, GemmType::kBf16}, kSmCount);
      EXPECT_EQ(c.split, one.split);
      EXPECT_EQ(c.rows, one.rows);
      EXPECT_TRUE(c.tokens >= m || c.tokens == 128);
      EXPECT_GE(c.stages, 2);
      EXPECT_LE(c.smem_bytes, kSmemMax);
    }
  }
  EXPECT_EQ(choose_row_invariant_gemm({0, 64, 64, GemmType::kBf16}, kSmCount).tokens, 0);
}

TEST(DecodeGemmConfig, RefusesWhatTheKernelCannotDo) {
  EXPECT_EQ(choose_decode_gemm({0, 256, 256}, kSmCount).tokens, 0);
  EXPECT_EQ(choose_decode_gemm({129, 256, 256}, kSmCount).tokens, 0);
  EXPECT_EQ(choose_decode_gemm({1, 257, 256}, kSmCount).tokens, 0);
  EXPECT_EQ(choose_decode_gemm({1, 256, 192}, kSmCount).tokens, 0);
  EXPECT_EQ(choose_decode_gemm({1, 256, 32, GemmType::kBf16}, kSmCount).tokens, 0);
  EXPECT_EQ(choose_decode_gemm({1, 256, 128 * 145}, kSmCount).tokens, 0)
      << "scales of a tile exceed their room";
  EXPECT_GT(choose_decode_gemm({1, 256, 192, GemmType::kBf16}, kSmCount).tokens, 0);
}

TEST(DecodeGemmConfig, TheRingFillsItsBudget) {
  const DecodeGemmConfig c = with_stages({.tokens = 8, .rows = 128, .split = 1}, 100 << 10, 56);
  EXPECT_LE(c.smem_bytes, 100 << 10);
  DecodeGemmConfig deeper = c;
  ++deeper.stages;
  EXPECT_GT(decode_gemm_smem_bytes(deeper), 100 << 10);
  EXPECT_EQ(with_stages({.tokens = 8, .rows = 64, .split = 1}, 200 << 10, 3).stages, 3) << "no deeper than K";
}

}  // namespace
}  // namespace gantry::sm90

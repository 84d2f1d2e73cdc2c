#include <gtest/gtest.h>

#include "kernels/cuda/sm90/expert_gemm.h"

namespace gantry::sm90 {
namespace {

constexpr int kSmemMax = 227 << 10;

ExpertShape r1(int tokens) { return {tokens, 256, 8, 7168, 2048}; }

TEST(ExpertGemmConfig, FitsTheMachineForEveryBatch) {
  for (int tokens = 1; tokens <= 128; ++tokens) {
    const ExpertConfig c = choose_expert_gemm(r1(tokens));
    EXPECT_LE(c.gate_up_smem_bytes, kSmemMax);
    EXPECT_LE(c.down_smem_bytes, kSmemMax);
    EXPECT_GE(c.gate_up_stages, 3);
    EXPECT_GE(c.down_stages, 3);
    EXPECT_TRUE(!c.gate_up_all || c.gate_up_tokens >= tokens);
    EXPECT_TRUE(c.down_tokens == 8 || c.down_tokens == 16);
  }
}

TEST(ExpertGemmConfig, CopiesRowsOnlyForLargeBatches) {
  EXPECT_TRUE(choose_expert_gemm(r1(32)).gate_up_all);
  EXPECT_FALSE(choose_expert_gemm(r1(33)).gate_up_all);
  EXPECT_EQ(choose_expert_gemm(r1(128)).down_tokens, 16);
}

TEST(ExpertGemmConfig, BoundsHoldTheWorstRouting) {
  for (const int tokens : {1, 7, 33, 128}) {
    const ExpertShape s = r1(tokens);
    const int picks = tokens * 8, hit = picks < 256 ? picks : 256;
    // Every expert hit wastes the most that alignment can, and a full box is read past the last slot.
    EXPECT_GE(slots_max(s), picks + hit * (kSlotAlign - 1) + 16);
    // One expert takes all it can, the others one pick each.
    for (const int chunk : {8, 16}) EXPECT_GE(chunks_max(s, chunk), hit + (picks - hit) / chunk);
  }
}

TEST(ExpertGemmConfig, PartialSumsHoldBothKernelsTiles) {
  for (int tokens = 1; tokens <= 128; ++tokens) {
    const ExpertConfig c = choose_expert_gemm(r1(tokens));
    // [256 rows of gate and up, tokens] and [128 rows of down, tokens] for each block.
    EXPECT_GE(stream_partial_floats(c), int64_t{kStreamBlocksMax} * 256 * c.gate_up_tokens);
    EXPECT_GE(stream_partial_floats(c), int64_t{kStreamBlocksMax} * 128 * c.down_tokens);
  }
}

TEST(ExpertGemmConfig, RefusesWhatTheKernelCannotDo) {
  EXPECT_EQ(choose_expert_gemm(r1(0)).gate_up_tokens, 0);
  EXPECT_EQ(choose_expert_gemm(r1(129)).gate_up_tokens, 0);
  EXPECT_EQ(choose_expert_gemm({1, 256, 8, 7100, 2048}).gate_up_tokens, 0);
  EXPECT_EQ(choose_expert_gemm({1, 512, 8, 7168, 2048}).gate_up_tokens, 0);
  EXPECT_EQ(choose_expert_gemm({1, 4, 8, 7168, 2048}).gate_up_tokens, 0) << "more picks than experts";
}

}  // namespace
}  // namespace gantry::sm90

#include <gtest/gtest.h>

#include "kernels/cuda/sm90/mla_prefill.h"

namespace gantry::sm90 {
namespace {

TEST(MlaPrefillConfig, TurnsOfHeadsFitTheBytes) {
  for (const int heads : {1, 7, 16, 128}) {
    for (const int64_t keys : {128, 4096, 163840}) {
      for (const int64_t bytes : {int64_t{1} << 20, int64_t{512} << 20, int64_t{8} << 30}) {
        const MlaPrefillConfig c = choose_mla_prefill(heads, keys, bytes);
        EXPECT_LE(c.heads, heads);
        EXPECT_LE(c.heads * keys * kMlaPrefillKeyBytes, bytes);
        EXPECT_EQ(c.heads == 0, keys * kMlaPrefillKeyBytes > bytes);
        EXPECT_LE(c.smem_bytes, 227 << 10);
      }
    }
  }
}

TEST(MlaPrefillConfig, TurnsAreOfEqualSize) {
  // 100 heads fit: two turns of 64, not one of 100 and one of 28.
  EXPECT_EQ(choose_mla_prefill(128, 128, 100 * 128 * kMlaPrefillKeyBytes).heads, 64);
}

TEST(MlaPrefillConfig, KeysAreWholeTiles) {
  EXPECT_EQ(mla_prefill_keys(1), 128);
  EXPECT_EQ(mla_prefill_keys(128), 128);
  EXPECT_EQ(mla_prefill_keys(129), 256);
}

TEST(MlaPrefillConfig, LeavesFewRowsToTheAbsorbedKernel) {
  EXPECT_FALSE(takes_mla_prefill(1, 4096));
  EXPECT_FALSE(takes_mla_prefill(128, 4096));
  EXPECT_TRUE(takes_mla_prefill(512, 512));
  EXPECT_TRUE(takes_mla_prefill(512, 100000));
}

TEST(MlaPrefillConfig, RefusesWhatFitsNowhere) {
  EXPECT_EQ(choose_mla_prefill(0, 128, 1 << 30).heads, 0);
  EXPECT_EQ(choose_mla_prefill(128, 0, 1 << 30).heads, 0);
  EXPECT_EQ(choose_mla_prefill(128, 4096, 1000).heads, 0);
}

}  // namespace
}  // namespace gantry::sm90

#include "sample/philox.h"

#include <gtest/gtest.h>

namespace gantry {
namespace {

// Known answers of Random123 1.14 (kat_vectors, philox4x32 10).
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, UniformsLieInsideZeroAndOneAndDifferByEveryPartOfTheKey) {
  double sum = 0;
  for (int32_t position = 0; position < 10'000; ++position) {
    const double u = uniform_at(1, 0, position);
    EXPECT_GT(u, 0);
    EXPECT_LT(u, 1);
    sum += u;
  }
  EXPECT_NEAR(sum / 10'000, 0.5, 0.01);
  const double base = uniform_at(1, 2, 3);
  EXPECT_NE(base, uniform_at(uint64_t{1} << 40 | 1, 2, 3));
  EXPECT_NE(base, uniform_at(2, 2, 3));
  EXPECT_NE(base, uniform_at(1, 3, 3));
  EXPECT_NE(base, uniform_at(1, 2, 4));
}

}  // namespace
}  // namespace gantry

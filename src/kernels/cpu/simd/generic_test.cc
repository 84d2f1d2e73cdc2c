#include "kernels/cpu/simd/generic.h"

#include <gtest/gtest.h>

#include <bit>

namespace gantry::cpu {
namespace {

TEST(Generic, WidensEveryHalfExactly) {
  for (uint32_t first = 0; first < 0x10000; first += Generic::kLanes) {
    uint16_t halves[Generic::kLanes];
    for (uint32_t i = 0; i < Generic::kLanes; ++i) halves[i] = static_cast<uint16_t>(first + i);
    float widened[Generic::kLanes];
    Generic::store(widened, Generic::load_f16(halves));
    for (int i = 0; i < Generic::kLanes; ++i) {
      ASSERT_EQ(std::bit_cast<uint32_t>(widened[i]), std::bit_cast<uint32_t>(f16_to_f32(halves[i])))
          << "half " << halves[i];
    }
  }
}

}  // namespace
}  // namespace gantry::cpu

#include "kernels/cuda/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gantry {
namespace {

TEST(NoCuda, SaysHowToBuildWithIt) {
  const Status status = cuda_device(0).status();
  EXPECT_EQ(status.code(), StatusCode::kUnimplemented);
  EXPECT_THAT(status.message(), testing::HasSubstr("CUDA=1"));
}

}  // namespace
}  // namespace gantry

#include "kernels/cuda/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/ops/backend.h"

namespace gantry {
namespace {

TEST(NoCuda, SaysHowToBuildWithIt) {
  for (const Status& status : {cuda_device(0).status(), device_backend("cuda").status()}) {
    EXPECT_EQ(status.code(), StatusCode::kNotFound);
    EXPECT_THAT(status.message(), testing::HasSubstr("CUDA=1"));
  }
}

TEST(NoCuda, AutoIsTheCpuWithoutANote) {
  const DeviceChoice choice = device_backend("auto").value();
  EXPECT_EQ(choice.backend, cpu_backend("auto").value());
  EXPECT_EQ(choice.note, "");
  EXPECT_EQ(device_backend("cpu").value().backend, choice.backend);
}

}  // namespace
}  // namespace gantry

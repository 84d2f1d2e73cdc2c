#include "kernels/cuda/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/ops/backend.h"

namespace gantry {
namespace {

// In every build and on every machine: a GPU that can be used, or one line that says why not.
TEST(CudaDevice, IsUsedOrSaysInOneLineWhatIsMissing) {
  const Result<CudaDevice> device = cuda_device(0);
  const Result<DeviceChoice> asked = device_backend("cuda");
  const DeviceChoice choice = device_backend("auto").value();
  ASSERT_EQ(device.ok(), asked.ok());
  if (device.ok()) {
    EXPECT_GT(device->multiprocessors, 0);
    EXPECT_EQ(asked->backend->name, "cuda");
    EXPECT_EQ(choice.backend, asked->backend);
    EXPECT_EQ(cuda_device(1000).status().code(), StatusCode::kNotFound);
    return;
  }
  const std::string message = asked.status().message();
  EXPECT_EQ(message.find('\n'), std::string::npos);
  EXPECT_THAT(message,
              testing::AnyOf(testing::StartsWith("no CUDA device: "), testing::HasSubstr("needs sm_90"),
                             testing::HasSubstr("no CUDA backend")));
  EXPECT_EQ(choice.backend, cpu_backend("auto").value());
  // A card that is there and cannot be used is worth a line; none is what most machines have.
  EXPECT_EQ(choice.note.empty(), asked.status().code() == StatusCode::kNotFound);
}

}  // namespace
}  // namespace gantry

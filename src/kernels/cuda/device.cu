#include <cuda_runtime.h>

#include "kernels/cuda/device.h"

namespace gantry {
namespace {

// 13020: 13.2
std::string version(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

}  // namespace

Result<CudaDevice> cuda_device(int ordinal) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorInsufficientDriver) {
    int driver = 0;  // the CUDA version that it supports; 0: there is none
    cudaDriverGetVersion(&driver);
    return not_found("no CUDA device: " +
                     (driver == 0 ? std::string("there is no NVIDIA driver")
                                  : "the NVIDIA driver supports CUDA " + version(driver)) +
                     "; one that supports CUDA " + version(CUDART_VERSION) + " is needed");
  }
  if (error != cudaSuccess) return not_found(std::string("no CUDA device: ") + cudaGetErrorString(error));
  if (ordinal < 0 || ordinal >= count) {
    return not_found("CUDA device " + std::to_string(ordinal) + " of " + std::to_string(count));
  }
  cudaDeviceProp properties{};
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, ordinal); error != cudaSuccess) {
    return unavailable(std::string("CUDA device: ") + cudaGetErrorString(error));
  }
  if (properties.major != 9 || properties.minor != 0) {
    return unimplemented(std::string(properties.name) + " is sm_" + std::to_string(properties.major) +
                         std::to_string(properties.minor) + "; the CUDA backend needs sm_90 (H100, H200)");
  }
  return CudaDevice{ordinal, properties.name, properties.multiProcessorCount, properties.totalGlobalMem};
}

}  // namespace gantry

#include <cuda_runtime.h>

#include "kernels/cuda/device.h"

namespace gantry {

Result<CudaDevice> cuda_device(int ordinal) {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    return not_found(std::string("no CUDA device: ") + cudaGetErrorString(error));
  }
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

// Kernel launches with attributes, and CUDA errors as Status.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "base/status.h"

namespace gantry::sm90 {

inline Status cuda_status(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return Status();
  return internal_error(std::string(what) + ": " + cudaGetErrorString(error));
}

struct LaunchShape {
  dim3 grid{1, 1, 1};
  int threads = 0;
  int smem_bytes = 0;
  int cluster_y = 1;
  bool overlap = true;  // programmatic dependent launch: the kernel itself waits for the one before
};

// Launches kernel(params). Raises the kernel's shared-memory limit where it needs more than 48 KiB.
template <typename Params>
Status launch(void (*kernel)(Params), const LaunchShape& shape, const Params& params, cudaStream_t stream) {
  if (shape.smem_bytes > (48 << 10)) {
    const Status status = cuda_status(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shape.smem_bytes),
        "shared memory");
    if (!status.ok()) return status;
  }
  cudaLaunchAttribute attributes[2] = {};
  unsigned count = 0;
  if (shape.overlap) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (shape.cluster_y > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count].val.clusterDim.x = 1;
    attributes[count].val.clusterDim.y = static_cast<unsigned>(shape.cluster_y);
    attributes[count++].val.clusterDim.z = 1;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = dim3(static_cast<unsigned>(shape.threads), 1, 1);
  config.dynamicSmemBytes = static_cast<size_t>(shape.smem_bytes);
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = count;
  return cuda_status(cudaLaunchKernelEx(&config, kernel, params), "kernel launch");
}

}  // namespace gantry::sm90

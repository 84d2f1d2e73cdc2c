// The GPU that this build can use. Without the cuda preset no_cuda/device.cc stands in.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace gantry {

struct CudaDevice {
  int ordinal = 0;
  std::string name;
  int multiprocessors = 0;
  uint64_t memory_bytes = 0;
};

// kNotFound: built without CUDA, no driver, no GPU or no such ordinal. kUnimplemented, with what is supported: one
// that is not sm_90.
Result<CudaDevice> cuda_device(int ordinal);

}  // namespace gantry

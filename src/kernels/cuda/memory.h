// The GPU's memory as the backend hands it out.
#pragma once

#include "kernels/ops/memory_space.h"

namespace gantry::cuda {

extern const MemorySpace kDeviceMemory;

}  // namespace gantry::cuda

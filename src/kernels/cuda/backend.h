// The backend of one GPU. Without the cuda preset no_cuda/device.cc stands in.
#pragma once

#include "kernels/ops/backend.h"

namespace gantry {

// Of device 0. Errors as cuda_device().
Result<const Backend*> cuda_backend();

}  // namespace gantry

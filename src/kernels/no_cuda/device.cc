#include "kernels/cuda/device.h"

#include "kernels/cuda/backend.h"

namespace gantry {

Result<CudaDevice> cuda_device(int) {
  return not_found("this build has no CUDA backend; 'make build CUDA=1' makes one that has, for sm_90");
}

Result<const Backend*> cuda_backend() { return cuda_device(0).status(); }

}  // namespace gantry

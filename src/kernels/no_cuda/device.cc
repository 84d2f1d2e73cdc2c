#include "kernels/cuda/device.h"

namespace gantry {

Result<CudaDevice> cuda_device(int) {
  return unimplemented("this build has no CUDA backend; 'make build CUDA=1' makes one that has, for sm_90");
}

}  // namespace gantry

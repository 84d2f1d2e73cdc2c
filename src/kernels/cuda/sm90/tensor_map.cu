#include <cuda_runtime.h>

#include <string>

#include "kernels/cuda/sm90/tensor_map.h"

namespace gantry::sm90 {

Result<CUtensorMap> make_tensor_map(const TensorMapSpec& spec) {
  // By entry point, so that the binary does not link the driver and starts on a machine without one.
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault,
                                       &found) != cudaSuccess ||
      found != cudaDriverEntryPointSuccess) {
    return unimplemented("the CUDA driver has no cuTensorMapEncodeTiled; CUDA 12.0 or newer is needed");
  }
  CUtensorMap map;
  const cuuint64_t sizes[2] = {spec.cols, spec.rows};
  const cuuint64_t strides[1] = {spec.row_stride};
  const cuuint32_t box[2] = {spec.box_cols, spec.box_rows};
  const cuuint32_t steps[2] = {1, 1};
  const CUresult result = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function)(
      &map, spec.type, 2, const_cast<void*>(spec.base), sizes, strides, box, steps,
      CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, spec.promotion,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    return internal_error("cuTensorMapEncodeTiled failed with " + std::to_string(static_cast<int>(result)) +
                          " for " + std::to_string(spec.rows) + " x " + std::to_string(spec.cols));
  }
  return map;
}

}  // namespace gantry::sm90

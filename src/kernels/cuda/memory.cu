#include <cuda_runtime.h>

#include <cstdio>

#include "kernels/cuda/memory.h"
#include "kernels/cuda/sm90/launch.h"

namespace gantry::cuda {
namespace {

using sm90::cuda_status;

Status too_little(size_t bytes) {
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  char text[128];
  std::snprintf(text, sizeof(text), "needs %.2f GB of the GPU's memory, %.2f of %.2f are free",
                static_cast<double>(bytes) / 1e9, static_cast<double>(free) / 1e9,
                static_cast<double>(total) / 1e9);
  return resource_exhausted(text);
}

Result<void*> allocate(size_t bytes) {
  void* base = nullptr;
  const cudaError_t error = cudaMalloc(&base, bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // not sticky: the next call is to succeed
    return too_little(bytes);
  }
  GANTRY_RETURN_IF_ERROR(cuda_status(error, "memory"));
  GANTRY_RETURN_IF_ERROR(cuda_status(cudaMemset(base, 0, bytes), "memory"));
  GANTRY_RETURN_IF_ERROR(cuda_status(cudaDeviceSynchronize(), "memory"));
  return base;
}
void release(void* base) { cudaFree(base); }

Result<void*> allocate_host(size_t bytes) {
  void* base = nullptr;
  GANTRY_RETURN_IF_ERROR(cuda_status(cudaMallocHost(&base, bytes), "page-locked memory"));
  return base;
}
void release_host(void* base) { cudaFreeHost(base); }

Status upload(void* to, const void* from, size_t bytes) {
  GANTRY_RETURN_IF_ERROR(cuda_status(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice), "copy to the GPU"));
  return cuda_status(cudaDeviceSynchronize(), "copy to the GPU");
}
Status download(void* to, const void* from, size_t bytes) {
  return cuda_status(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), "copy from the GPU");
}

MemorySpace::Usage usage() {
  size_t free = 0, total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) return {};
  return {total - free, total};
}

}  // namespace

const MemorySpace kDeviceMemory = {allocate, release, allocate_host, release_host, upload, download, usage};

}  // namespace gantry::cuda

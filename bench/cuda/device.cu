#include <cuda_bf16.h>

#include <algorithm>

#include "bench/cuda/device.h"

namespace gantry::bench {
namespace {

__device__ uint32_t hash(uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return static_cast<uint32_t>((x ^ (x >> 31)) >> 16);
}

__global__ void fill_e4m3_kernel(uint8_t* data, size_t count, uint64_t seed) {
  const size_t step = size_t{gridDim.x} * blockDim.x;
  for (size_t i = size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
    const uint32_t h = hash(seed ^ i);
    const uint32_t code = h % 127;  // 0x7f is NaN
    data[i] = static_cast<uint8_t>(code | (h >> 16 & 1) << 7);
  }
}
__global__ void fill_f32_kernel(float* data, size_t count, float lo, float hi, uint64_t seed) {
  const size_t step = size_t{gridDim.x} * blockDim.x;
  for (size_t i = size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
    data[i] = lo + (hi - lo) * (static_cast<float>(hash(seed ^ i) >> 8) * 0x1p-24f);
  }
}
__global__ void fill_bf16_kernel(__nv_bfloat16* data, size_t count, float sigma, uint64_t seed) {
  const size_t step = size_t{gridDim.x} * blockDim.x;
  for (size_t i = size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
    const float u = (static_cast<float>(hash(seed ^ 2 * i) >> 8) + 0.5f) * 0x1p-24f;
    const float v = static_cast<float>(hash(seed ^ (2 * i + 1)) >> 8) * 0x1p-24f;
    data[i] = __float2bfloat16_rn(sigma * sqrtf(-2.0f * logf(u)) * cospif(2.0f * v));
  }
}
__global__ void read_kernel(const uint4* data, size_t count, uint32_t* out) {
  const size_t step = size_t{gridDim.x} * blockDim.x;
  uint32_t sum = 0;
  size_t i = size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  for (; i + 7 * step < count; i += 8 * step) {
    uint4 v[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) v[j] = __ldcs(data + i + j * step);
#pragma unroll
    for (int j = 0; j < 8; ++j) sum += v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  if (sum == 0x12345678u) *out = sum;
}

}  // namespace

void fill_e4m3(uint8_t* data, size_t count, uint64_t seed) {
  fill_e4m3_kernel<<<1056, 512>>>(data, count, seed << 40);
  must(cudaGetLastError());
}
void fill_f32(float* data, size_t count, float lo, float hi, uint64_t seed) {
  fill_f32_kernel<<<1056, 512>>>(data, count, lo, hi, seed << 40);
  must(cudaGetLastError());
}
void fill_bf16(void* data, size_t count, float sigma, uint64_t seed) {
  fill_bf16_kernel<<<1056, 512>>>(static_cast<__nv_bfloat16*>(data), count, sigma, seed << 40);
  must(cudaGetLastError());
}

double time_us(int launches, const std::function<void(int, cudaStream_t)>& launch) {
  cudaStream_t stream;
  must(cudaStreamCreate(&stream));
  for (int i = 0; i < 2; ++i) launch(i, stream);  // function attributes and modules, outside the capture
  must(cudaStreamSynchronize(stream), "warm-up");
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < launches; ++i) launch(i, stream);
  must(cudaStreamEndCapture(stream, &graph), "capture");
  must(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
  cudaEvent_t begin, end;
  must(cudaEventCreate(&begin));
  must(cudaEventCreate(&end));
  std::vector<double> times;
  for (int replay = 0; replay < 12; ++replay) {
    must(cudaEventRecord(begin, stream));
    must(cudaGraphLaunch(exec, stream));
    must(cudaEventRecord(end, stream));
    must(cudaEventSynchronize(end), "replay");
    float ms = 0;
    must(cudaEventElapsedTime(&ms, begin, end));
    if (replay >= 2) times.push_back(static_cast<double>(ms) * 1e3 / launches);
  }
  must(cudaEventDestroy(begin));
  must(cudaEventDestroy(end));
  must(cudaGraphExecDestroy(exec));
  must(cudaGraphDestroy(graph));
  must(cudaStreamDestroy(stream));
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

double read_bandwidth() {
  const size_t bytes = size_t{4} << 30;
  DeviceBuffer<uint8_t> data(bytes);
  DeviceBuffer<uint32_t> out(1);
  fill_e4m3(data.get(), bytes, 7);
  const double us = time_us(4, [&](int, cudaStream_t stream) {
    read_kernel<<<2112, 512, 0, stream>>>(reinterpret_cast<const uint4*>(data.get()), bytes / 16, out.get());
  });
  return static_cast<double>(bytes) / us * 1e6;
}

int sm_count() {
  int count = 0;
  must(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, 0));
  return count;
}

}  // namespace gantry::bench

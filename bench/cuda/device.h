// Device memory, random contents and timing for the kernel checks and benches. A failed CUDA call ends the
// program: there is nothing to go on with.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <utility>
#include <vector>

#include "base/status.h"

namespace gantry::bench {

inline void must(cudaError_t error, const char* what = "CUDA") {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}
inline void must(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.message().c_str());
  std::exit(1);
}

// Filled with 0xff at first: NaN in f32, bf16 and e4m3, so that what a kernel leaves unwritten shows.
template <typename T>
class DeviceBuffer {
 public:
  explicit DeviceBuffer(size_t count = 0) : count_(count) {
    if (count == 0) return;
    must(cudaMalloc(&data_, count * sizeof(T)), "cudaMalloc");
    poison();
  }
  explicit DeviceBuffer(const std::vector<T>& host) : DeviceBuffer(host.size()) {
    must(cudaMemcpy(data_, host.data(), count_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), count_(std::exchange(other.count_, 0)) {}
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~DeviceBuffer() {
    if (data_ != nullptr) cudaFree(data_);
  }
  void poison() { must(cudaMemset(data_, 0xff, count_ * sizeof(T))); }
  T* get() const { return data_; }
  size_t size() const { return count_; }
  std::vector<T> download() const {
    std::vector<T> host(count_);
    must(cudaMemcpy(host.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost));
    return host;
  }

 private:
  T* data_ = nullptr;
  size_t count_ = 0;
};

// Random e4m3 codes over the whole finite range; f32 in [lo, hi); bf16 of a normal distribution.
void fill_e4m3(uint8_t* data, size_t count, uint64_t seed);
void fill_f32(float* data, size_t count, float lo, float hi, uint64_t seed);
void fill_bf16(void* data, size_t count, float sigma, uint64_t seed);

// Bytes a second of a sum over 4 GiB: the ceiling that a read-bound kernel is measured against.
double read_bandwidth();

// Median over replays of a graph of `launches` calls (launch(i) is the i-th: rotate buffers larger than the
// L2), in microseconds a call. Launch gaps count.
double time_us(int launches, const std::function<void(int, cudaStream_t)>& launch);

int sm_count();

}  // namespace gantry::bench

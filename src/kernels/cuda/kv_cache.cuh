// Addresses and element conversions of the paged cache in device code.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "base/limits.h"

namespace gantry::cuda {

template <typename T>
__device__ __forceinline__ T from_f32(float v);
template <>
__device__ __forceinline__ float from_f32<float>(float v) {
  return v;
}
template <>
__device__ __forceinline__ __half from_f32<__half>(float v) {
  return __float2half_rn(v);
}
template <>
__device__ __forceinline__ __nv_bfloat16 from_f32<__nv_bfloat16>(float v) {
  return __float2bfloat16_rn(v);
}

struct DeviceKv {
  uint8_t* base;
  int64_t block_stride;
  int kv_heads, key_dim, value_dim;
};

constexpr int kTokens = limits::kKvBlockTokens;

template <typename T>
__device__ __forceinline__ T* key_at(const DeviceKv& kv, int block, int token, int head) {
  return reinterpret_cast<T*>(kv.base + block * kv.block_stride) +
         (int64_t{token} * kv.kv_heads + head) * kv.key_dim;
}
template <typename T>
__device__ __forceinline__ T* value_at(const DeviceKv& kv, int block, int token, int head) {
  return reinterpret_cast<T*>(kv.base + block * kv.block_stride) +
         int64_t{kTokens} * kv.kv_heads * kv.key_dim + (int64_t{token} * kv.kv_heads + head) * kv.value_dim;
}

}  // namespace gantry::cuda

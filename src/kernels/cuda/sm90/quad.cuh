// The four lanes that share a row of a warpgroup's accumulators (wgmma.cuh).
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

namespace gantry::sm90 {

__device__ __forceinline__ float quad_max(float v) {
  v = fmaxf(v, __shfl_xor_sync(~0u, v, 1));
  return fmaxf(v, __shfl_xor_sync(~0u, v, 2));
}
__device__ __forceinline__ float quad_sum(float v) {
  v += __shfl_xor_sync(~0u, v, 1);
  return v + __shfl_xor_sync(~0u, v, 2);
}

__device__ __forceinline__ uint32_t pack_bf16(float a, float b) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// 16 columns' worth of words, four of each lane, to each lane with all of its own eight columns' words.
__device__ __forceinline__ uint4 quad_transpose(uint32_t w0, uint32_t w1, uint32_t w2, uint32_t w3,
                                                int lane) {
  const bool odd = lane & 1, upper = lane & 2;
  uint32_t got = __shfl_xor_sync(~0u, odd ? w0 : w1, 1);
  (odd ? w0 : w1) = got;
  got = __shfl_xor_sync(~0u, odd ? w2 : w3, 1);
  (odd ? w2 : w3) = got;
  got = __shfl_xor_sync(~0u, upper ? w0 : w2, 2);
  (upper ? w0 : w2) = got;
  got = __shfl_xor_sync(~0u, upper ? w1 : w3, 2);
  (upper ? w1 : w3) = got;
  return make_uint4(w0, w1, w2, w3);
}

// Stores 128 columns of one row of the accumulators, s[4 i] and s[4 i + 1] the lane's columns 8 i + 2 (lane % 4), as bf16
// in 16-byte pieces, those below `columns`. All lanes of the warp call it.
__device__ __forceinline__ void store_row_bf16(__nv_bfloat16* to, const float* s, bool inside, int columns,
                                               int lane) {
#pragma unroll
  for (int i = 0; i < 16; i += 4) {
    const float* v = s + 4 * i;
    const uint4 eight = quad_transpose(pack_bf16(v[0], v[1]), pack_bf16(v[4], v[5]), pack_bf16(v[8], v[9]),
                                       pack_bf16(v[12], v[13]), lane);
    const int at = 8 * (i + lane % 4);
    if (inside && at < columns) *reinterpret_cast<uint4*>(to + at) = eight;
  }
}

}  // namespace gantry::sm90

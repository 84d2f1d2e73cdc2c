// One element of every format that weights come in, bit for bit as tensor/convert.h defines it: products and sums
// round one by one.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <cstdint>

#include "tensor/dtype.h"

namespace gantry::cuda {

__device__ __forceinline__ float half_at(const uint8_t* p) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(p[0] | p[1] << 8)));
}
__device__ __forceinline__ uint32_t word_at(const uint8_t* p) {
  return p[0] | static_cast<uint32_t>(p[1]) << 8 | static_cast<uint32_t>(p[2]) << 16 |
         static_cast<uint32_t>(p[3]) << 24;
}

// Nibble i of 32: the low halves of 16 bytes, then the high ones.
__device__ __forceinline__ int nibble(const uint8_t* q, int i) { return i < 16 ? q[i] & 15 : q[i - 16] >> 4; }

__device__ __forceinline__ float k_block_value(const uint8_t* b, int i, bool five) {
  const int j = i / 32, at = i % 32;
  const uint8_t* s = b + 4;
  const int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
  const int min = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | (s[j] >> 6) << 4;
  const uint8_t byte = b[(five ? 48 : 16) + j / 2 * 32 + at];
  int v = j % 2 ? byte >> 4 : byte & 15;
  if (five) v |= (b[16 + at] >> j & 1) << 4;
  return __fsub_rn(__fmul_rn(__fmul_rn(half_at(b), static_cast<float>(scale)), static_cast<float>(v)),
                   __fmul_rn(half_at(b + 2), static_cast<float>(min)));
}

__device__ __forceinline__ float q6_k_value(const uint8_t* b, int i) {
  const int half = i / 128, k = i % 128 / 32, at = i % 32;
  const uint8_t* low = b + half * 64 + k % 2 * 32;
  const int q = (k < 2 ? low[at] & 15 : low[at] >> 4) | (b[128 + half * 32 + at] >> (2 * k) & 3) << 4;
  const auto scale = static_cast<int8_t>(b[192 + half * 8 + k * 2 + at / 16]);
  return __fmul_rn(__fmul_rn(half_at(b + 208), static_cast<float>(scale)), static_cast<float>(q - 32));
}

// Element `i` of the block at `b`; plain types are blocks of one.
__device__ __forceinline__ float block_value(DType dtype, const uint8_t* b, int i) {
  switch (dtype) {
    case DType::kF32:
      return __uint_as_float(word_at(b));
    case DType::kF16:
      return half_at(b);
    case DType::kBF16:
      return __uint_as_float(static_cast<uint32_t>(b[0] | b[1] << 8) << 16);
    case DType::kF8E4M3:  // without its block's scale
      return __half2float(__half(__nv_cvt_fp8_to_halfraw(b[0], __NV_E4M3)));
    case DType::kQ4_0:
      return __fmul_rn(half_at(b), static_cast<float>(nibble(b + 2, i) - 8));
    case DType::kQ4_1:
      return __fadd_rn(__fmul_rn(half_at(b), static_cast<float>(nibble(b + 4, i))), half_at(b + 2));
    case DType::kQ5_0: {
      const int q = nibble(b + 6, i) | static_cast<int>(word_at(b + 2) >> i & 1) << 4;
      return __fmul_rn(half_at(b), static_cast<float>(q - 16));
    }
    case DType::kQ5_1: {
      const int q = nibble(b + 8, i) | static_cast<int>(word_at(b + 4) >> i & 1) << 4;
      return __fadd_rn(__fmul_rn(half_at(b), static_cast<float>(q)), half_at(b + 2));
    }
    case DType::kQ8_0:
      return __fmul_rn(half_at(b), static_cast<float>(static_cast<int8_t>(b[2 + i])));
    case DType::kQ4_K:
      return k_block_value(b, i, false);
    case DType::kQ5_K:
      return k_block_value(b, i, true);
    case DType::kQ6_K:
      return q6_k_value(b, i);
    default:
      return 0.0f;  // prepare() and the ops' checks let no other through
  }
}

}  // namespace gantry::cuda

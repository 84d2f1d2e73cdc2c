// Scalar conversions between f32 and the 16-bit formats (round to nearest even), and block dequantisation:
// the plain, exact definitions that every faster kernel is tested against.
#pragma once

#include <bit>
#include <cstdint>
#include <span>

#include "tensor/tensor.h"

namespace gantry {

inline float bf16_to_f32(uint16_t h) { return std::bit_cast<float>(static_cast<uint32_t>(h) << 16); }

inline uint16_t f32_to_bf16(float f) {
  uint32_t u = std::bit_cast<uint32_t>(f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((u >> 16) | 0x40u);  // quiet NaN
  u += 0x7fffu + ((u >> 16) & 1u);
  return static_cast<uint16_t>(u >> 16);
}

float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f);

// out[i] = value of element first + i, for `out.size()` elements; for block formats `first` and the count are
// multiples of the block. dtype: floats and every kQ* format. CHECKs on another dtype.
void dequantize(const TensorView& tensor, int64_t first, std::span<float> out);

}  // namespace gantry

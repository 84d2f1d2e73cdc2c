// Scalar conversions between f32 and the 8 and 16-bit formats (round to nearest even), and block dequantisation:
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

// E4M3 without infinities (OCP OFP8 1.0, "E4M3"): sign, 4 bits of exponent with bias 7, 3 of mantissa; the
// largest value is 448, and 0x7f and 0xff are NaN.
inline constexpr float kE4m3Max = 448.0f;
float e4m3_to_f32(uint8_t b);
// To nearest even; what exceeds 448 becomes 448, NaN stays NaN.
uint8_t f32_to_e4m3(float f);
// Whether any of the bytes is a NaN.
bool e4m3_has_nan(std::span<const uint8_t> bytes);

// out[i] = value of element first + i, for `out.size()` elements; for block formats `first` and the count are
// multiples of the block. dtype: floats (kF8E4M3 without the scale that its checkpoint keeps beside it) and
// every kQ* format. CHECKs on another dtype.
void dequantize(const TensorView& tensor, int64_t first, std::span<float> out);

}  // namespace gantry

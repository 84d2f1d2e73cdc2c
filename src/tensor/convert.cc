#include "tensor/convert.h"

#include <cstring>

#include "base/check.h"

namespace gantry {

float f16_to_f32(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t exponent = (h >> 10) & 0x1fu;
  const uint32_t mantissa = h & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
  return sign ? -magnitude : magnitude;
}

uint16_t f32_to_f16(float f) {
  const uint32_t u = std::bit_cast<uint32_t>(f);
  const uint16_t sign = static_cast<uint16_t>((u >> 16) & 0x8000u);
  const uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | 0x7e00u;
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;  // rounds to 65536 or is infinite
  if (magnitude < 0x38800000u) {                        // subnormal or zero in f16
    const float scaled = std::bit_cast<float>(magnitude) * 0x1p24f;
    uint32_t q = static_cast<uint32_t>(scaled);
    const float rest = scaled - static_cast<float>(q);
    if (rest > 0.5f || (rest == 0.5f && (q & 1u))) ++q;
    return static_cast<uint16_t>(sign | q);
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

float e4m3_to_f32(uint8_t b) {
  const uint32_t magnitude = b & 0x7fu;
  if (magnitude == 0x7f) return std::bit_cast<float>((static_cast<uint32_t>(b & 0x80u) << 24) | 0x7fc00000u);
  // The bits in f32's places have the value times 2^(7 - 127), subnormals too.
  const float value = std::bit_cast<float>(magnitude << 20) * 0x1p120f;
  return (b & 0x80u) ? -value : value;
}

uint8_t f32_to_e4m3(float f) {
  const uint32_t u = std::bit_cast<uint32_t>(f);
  const auto sign = static_cast<uint8_t>((u >> 24) & 0x80u);
  const uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | 0x7fu;
  const float value = std::bit_cast<float>(magnitude);
  if (value >= kE4m3Max) return sign | 0x7eu;
  if (value < 0x1p-6f) {                                       // subnormal: a multiple of 2^-9
    const float units = (value * 0x1p9f + 0x1p23f) - 0x1p23f;  // rounded to nearest even by the addition
    return static_cast<uint8_t>(sign | static_cast<uint32_t>(units));
  }
  const uint32_t rounded = magnitude + 0x7ffffu + ((magnitude >> 20) & 1u);
  return static_cast<uint8_t>(sign | ((rounded - (120u << 23)) >> 20));
}

bool e4m3_has_nan(std::span<const uint8_t> bytes) {
  // A block at a time without a branch inside, so that it compiles to vectors.
  constexpr size_t kBlock = 4096;
  for (size_t first = 0; first < bytes.size(); first += kBlock) {
    const size_t last = first + kBlock < bytes.size() ? first + kBlock : bytes.size();
    uint8_t found = 0;
    for (size_t i = first; i < last; ++i) found |= static_cast<uint8_t>((bytes[i] & 0x7fu) == 0x7fu);
    if (found != 0) return true;
  }
  return false;
}

namespace {

uint16_t load_u16(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
uint32_t load_u32(const uint8_t* p) {
  uint32_t v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
float load_f16(const uint8_t* p) { return f16_to_f32(load_u16(p)); }

// The 6-bit scale and min of sub-block j (0..7) of Q4_K and Q5_K, out of 12 packed bytes.
struct ScaleMin {
  int scale;
  int min;
};
ScaleMin k_scale_min(const uint8_t* s, int j) {
  if (j < 4) return {s[j] & 63, s[j + 4] & 63};
  return {(s[j + 4] & 15) | ((s[j - 4] >> 6) << 4), (s[j + 4] >> 4) | ((s[j] >> 6) << 4)};
}

void dequantize_block(DType dtype, const uint8_t* b, float* y) {
  switch (dtype) {
    case DType::kQ4_0: {
      const float d = load_f16(b);
      for (int i = 0; i < 16; ++i) {
        y[i] = d * static_cast<float>((b[2 + i] & 15) - 8);
        y[i + 16] = d * static_cast<float>((b[2 + i] >> 4) - 8);
      }
      return;
    }
    case DType::kQ4_1: {
      const float d = load_f16(b), m = load_f16(b + 2);
      for (int i = 0; i < 16; ++i) {
        y[i] = d * static_cast<float>(b[4 + i] & 15) + m;
        y[i + 16] = d * static_cast<float>(b[4 + i] >> 4) + m;
      }
      return;
    }
    case DType::kQ5_0: {
      const float d = load_f16(b);
      const uint32_t high = load_u32(b + 2);
      for (int i = 0; i < 16; ++i) {
        const int lo = (b[6 + i] & 15) | static_cast<int>(((high >> i) & 1u) << 4);
        const int hi = (b[6 + i] >> 4) | static_cast<int>(((high >> (i + 16)) & 1u) << 4);
        y[i] = d * static_cast<float>(lo - 16);
        y[i + 16] = d * static_cast<float>(hi - 16);
      }
      return;
    }
    case DType::kQ5_1: {
      const float d = load_f16(b), m = load_f16(b + 2);
      const uint32_t high = load_u32(b + 4);
      for (int i = 0; i < 16; ++i) {
        const int lo = (b[8 + i] & 15) | static_cast<int>(((high >> i) & 1u) << 4);
        const int hi = (b[8 + i] >> 4) | static_cast<int>(((high >> (i + 16)) & 1u) << 4);
        y[i] = d * static_cast<float>(lo) + m;
        y[i + 16] = d * static_cast<float>(hi) + m;
      }
      return;
    }
    case DType::kQ8_0: {
      const float d = load_f16(b);
      for (int i = 0; i < 32; ++i) y[i] = d * static_cast<float>(static_cast<int8_t>(b[2 + i]));
      return;
    }
    case DType::kQ4_K:
    case DType::kQ5_K: {
      const bool five = dtype == DType::kQ5_K;
      const float d = load_f16(b), dmin = load_f16(b + 2);
      const uint8_t* high = b + 16;
      const uint8_t* q = b + (five ? 48 : 16);
      for (int j = 0; j < 8; ++j) {
        const auto [scale, min] = k_scale_min(b + 4, j);
        const float s = d * static_cast<float>(scale), m = dmin * static_cast<float>(min);
        for (int i = 0; i < 32; ++i) {
          const uint8_t byte = q[(j / 2) * 32 + i];
          int v = (j % 2) ? byte >> 4 : byte & 15;
          if (five) v |= ((high[i] >> j) & 1) << 4;
          y[j * 32 + i] = s * static_cast<float>(v) - m;
        }
      }
      return;
    }
    case DType::kQ6_K: {
      const float d = load_f16(b + 208);
      const auto* scales = reinterpret_cast<const int8_t*>(b + 192);
      for (int half = 0; half < 2; ++half) {
        const uint8_t* low = b + half * 64;
        const uint8_t* high = b + 128 + half * 32;
        for (int i = 0; i < 32; ++i) {
          const int q[4] = {
              (low[i] & 15) | ((high[i] & 3) << 4), (low[i + 32] & 15) | (((high[i] >> 2) & 3) << 4),
              (low[i] >> 4) | (((high[i] >> 4) & 3) << 4), (low[i + 32] >> 4) | (((high[i] >> 6) & 3) << 4)};
          for (int k = 0; k < 4; ++k) {
            y[half * 128 + k * 32 + i] =
                d * static_cast<float>(scales[half * 8 + k * 2 + i / 16]) * static_cast<float>(q[k] - 32);
          }
        }
      }
      return;
    }
    default:
      GANTRY_CHECK(false) << "not a block format: " << to_string(dtype);
  }
}

}  // namespace

void dequantize(const TensorView& tensor, int64_t first, std::span<float> out) {
  const auto* bytes = tensor.as<uint8_t>();
  const auto count = static_cast<int64_t>(out.size());
  switch (tensor.dtype) {
    case DType::kF32:
      std::memcpy(out.data(), bytes + first * 4, out.size_bytes());
      return;
    case DType::kF16:
      for (int64_t i = 0; i < count; ++i) out[static_cast<size_t>(i)] = load_f16(bytes + (first + i) * 2);
      return;
    case DType::kBF16:
      for (int64_t i = 0; i < count; ++i)
        out[static_cast<size_t>(i)] = bf16_to_f32(load_u16(bytes + (first + i) * 2));
      return;
    case DType::kF8E4M3:
      for (int64_t i = 0; i < count; ++i) out[static_cast<size_t>(i)] = e4m3_to_f32(bytes[first + i]);
      return;
    default:
      break;
  }
  const DTypeInfo& info = dtype_info(tensor.dtype);
  GANTRY_CHECK(first % info.block_elements == 0 && count % info.block_elements == 0) << "partial block";
  for (int64_t i = 0; i < count; i += info.block_elements) {
    dequantize_block(tensor.dtype, bytes + (first + i) / info.block_elements * info.block_bytes,
                     &out[static_cast<size_t>(i)]);
  }
}

}  // namespace gantry

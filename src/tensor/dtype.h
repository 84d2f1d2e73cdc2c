// Element types and block-quantised formats of weights, as the files store them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace gantry {

enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kI8,
  kU8,
  kI16,
  kI32,
  kI64,
  kBool,
  // GGUF blocks (ggml-common.h): little-endian, packed, no padding.
  kQ4_0,  // 32: f16 d; 16 bytes of nibbles            w = d * (q - 8)
  kQ4_1,  // 32: f16 d, f16 m; 16 bytes of nibbles     w = d * q + m
  kQ5_0,  // 32: f16 d; u32 high bits; 16 bytes        w = d * (q - 16)
  kQ5_1,  // 32: f16 d, f16 m; u32 high bits; 16 bytes w = d * q + m
  kQ8_0,  // 32: f16 d; 32 x i8                        w = d * q
  kQ4_K,  // 256: f16 d, f16 dmin; 12 bytes of 6-bit scales and mins; 128 bytes of nibbles
  kQ5_K,  // 256: f16 d, f16 dmin; 12 bytes of scales and mins; 32 bytes of high bits; 128 bytes
  kQ6_K,  // 256: 128 bytes low, 64 bytes high, 16 x i8 scales, f16 d
};

struct DTypeInfo {
  std::string_view name;  // "F32", "BF16", "Q4_K" ...
  int block_elements;     // 1 for plain types
  int block_bytes;
};

const DTypeInfo& dtype_info(DType dtype);
inline std::string_view to_string(DType dtype) { return dtype_info(dtype).name; }
inline bool is_quantized(DType dtype) { return dtype_info(dtype).block_elements > 1; }

// Bytes of `elements` values; empty when elements is no multiple of the block or the size overflows 63 bits.
std::optional<uint64_t> bytes_of(DType dtype, uint64_t elements);

}  // namespace gantry

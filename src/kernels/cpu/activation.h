// What a linear's input rows become before its GEMM.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace gantry::cpu {

inline constexpr size_t kDTypes = static_cast<size_t>(DType::kQ6_K) + 1;

enum class ActivationKind : uint8_t {
  kF32,
  kBF16,  // columns padded to even with zero
  kInt8,  // Int8Block for each 32 columns
  kF8,    // f32 values that finish_rows() rounds (ops/round_activations.h)
};
inline constexpr int kActivationKinds = 4;

// 32 activations x = scale * q, to nearest. The sums serve weights with an offset or a minimum:
// sum (q_w - offset) q = sum q_w q + offset * neg_sum;  sum (d q_w + m) x = d scale sum q_w q + m scaled_sum.
struct Int8Block {
  int8_t q[32];
  float scale;          // largest |x| / 127
  float scaled_sum;     // scale * sum q
  int32_t neg_sum;      // -sum q
  int16_t neg_half[2];  // -sum of the first and of the last 16
};
static_assert(sizeof(Int8Block) == 48);

// Bytes of one activation row of `cols` columns, a multiple of 64.
inline int64_t activation_stride(ActivationKind kind, int64_t cols) {
  const int64_t bytes = kind == ActivationKind::kF32 || kind == ActivationKind::kF8 ? cols * 4
                        : kind == ActivationKind::kBF16                             ? (cols + 1) / 2 * 4
                                                        : cols / 32 * static_cast<int64_t>(sizeof(Int8Block));
  return (bytes + 63) / 64 * 64;
}

}  // namespace gantry::cpu

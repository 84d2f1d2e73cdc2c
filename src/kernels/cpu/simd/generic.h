// Four lanes in portable C++: the vector extensions that g++ and clang lower to any machine (SSE2, NEON,
// plain code). Every instruction set has a struct of this interface (avx2.h, avx512.h); the kernels are
// templates over it. Semantics of each entry:
//   fma        a * b + c; two roundings here, one with AVX2 and AVX-512
//   sum, max   over lanes, in a fixed tree
//   round_i32  to nearest even; |x| < 2^22
//   keep_first lanes n and up become `fill`
#pragma once

#include <cstdint>
#include <cstring>

#include "tensor/convert.h"

namespace gantry::cpu {

struct Generic {
  static constexpr int kLanes = 4;
  using F = float __attribute__((vector_size(16)));
  using I = int32_t __attribute__((vector_size(16)));
  using U = uint32_t __attribute__((vector_size(16)));

  static F load(const float* p) {
    F v;
    std::memcpy(&v, p, sizeof(v));
    return v;
  }
  static void store(float* p, F v) { std::memcpy(p, &v, sizeof(v)); }
  static F set1(float x) { return F{x, x, x, x}; }
  static F zero() { return F{}; }
  static F add(F a, F b) { return a + b; }
  static F sub(F a, F b) { return a - b; }
  static F mul(F a, F b) { return a * b; }
  static F div(F a, F b) { return a / b; }
  static F max(F a, F b) { return a > b ? a : b; }
  static F fma(F a, F b, F c) { return a * b + c; }
  static F below(F x, float limit, F a, F b) { return x < set1(limit) ? a : b; }
  static float sum(F v) { return (v[0] + v[2]) + (v[1] + v[3]); }
  static float max_lane(F v) {
    const float a = v[0] > v[2] ? v[0] : v[2], b = v[1] > v[3] ? v[1] : v[3];
    return a > b ? a : b;
  }
  static F keep_first(F v, int n, float fill) {
    for (int i = 0; i < kLanes; ++i) v[i] = i < n ? v[i] : fill;
    return v;
  }
  static F load_first(const float* p, int n) {
    F v{};
    for (int i = 0; i < kLanes; ++i) {
      if (i < n) v[i] = p[i];
    }
    return v;
  }
  static void store_first(float* p, F v, int n) {
    for (int i = 0; i < kLanes; ++i) {
      if (i < n) p[i] = v[i];
    }
  }

  // In f32's places a half's bits have its value times 2^(15 - 127), subnormals too.
  static F load_f16(const void* p) {
    using H = uint16_t __attribute__((vector_size(8)));
    H h;
    std::memcpy(&h, p, sizeof(h));
    const U bits = __builtin_convertvector(h, U);
    const U magnitude = (bits & 0x7fffu) << 13;
    const U infinite = reinterpret_cast<U>(magnitude >= (0x7c00u << 13)) & 0x7f800000u;  // or a NaN
    const U value = reinterpret_cast<U>(reinterpret_cast<F>(magnitude) * 0x1p112f);
    return reinterpret_cast<F>(value | infinite | (bits & 0x8000u) << 16);
  }
  static F load_bf16(const void* p) {
    uint16_t h[kLanes];
    std::memcpy(h, p, sizeof(h));
    return F{bf16_to_f32(h[0]), bf16_to_f32(h[1]), bf16_to_f32(h[2]), bf16_to_f32(h[3])};
  }
  static F load_u8(const void* p) {
    uint8_t b[kLanes];
    std::memcpy(b, p, sizeof(b));
    return to_f32(I{b[0], b[1], b[2], b[3]});
  }
  static F load_i8(const void* p) {
    int8_t b[kLanes];
    std::memcpy(b, p, sizeof(b));
    return to_f32(I{b[0], b[1], b[2], b[3]});
  }
  static void store_f16(void* p, F v) {
    uint16_t h[kLanes];
    for (int i = 0; i < kLanes; ++i) h[i] = f32_to_f16(v[i]);
    std::memcpy(p, h, sizeof(h));
  }
  static void store_bf16(void* p, F v) {
    uint16_t h[kLanes];
    for (int i = 0; i < kLanes; ++i) h[i] = f32_to_bf16(v[i]);
    std::memcpy(p, h, sizeof(h));
  }

  static I load_bits(const void* p) {
    I v;
    std::memcpy(&v, p, sizeof(v));
    return v;
  }
  static I bits_and(I a, int32_t mask) { return a & I{mask, mask, mask, mask}; }
  static I bits_or(I a, I b) { return a | b; }
  template <int N>
  static I shift_left(I a) {
    return reinterpret_cast<I>(reinterpret_cast<U>(a) << N);
  }
  template <int N>
  static I shift_right(I a) {
    return reinterpret_cast<I>(reinterpret_cast<U>(a) >> N);
  }
  static F to_f32(I v) { return __builtin_convertvector(v, F); }
  static F as_f32(I v) { return reinterpret_cast<F>(v); }
  static I round_i32(F v) {
    const F magic = set1(12582912.0f);  // 1.5 * 2^23: its last bit is worth 1
    return reinterpret_cast<I>(v + magic) - reinterpret_cast<I>(magic);
  }
  static F pow2(I n) { return reinterpret_cast<F>((n + I{127, 127, 127, 127}) << 23); }
};

}  // namespace gantry::cpu

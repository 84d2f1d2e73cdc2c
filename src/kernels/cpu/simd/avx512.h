// Sixteen lanes: AVX-512 F, BW, VL, DQ and VNNI; BF16 in gemm_bf16_avx512.cc alone. Interface: generic.h, and
// for int8 activations:
//   dot<Bits>       each lane adds its 4 products of an unsigned quant and a signed activation byte
//   kOffsetOf8Bits  what a quant of Q8_0 still has on top of its value inside dot<8>
#pragma once

#include <cstdint>

#include "kernels/cpu/simd/immintrin_quiet.h"

namespace gantry::cpu {

struct Avx512 {
  static constexpr int kLanes = 16;
  using F = __m512;
  using I = __m512i;

  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, F v) { _mm512_storeu_ps(p, v); }
  static F set1(float x) { return _mm512_set1_ps(x); }
  static F zero() { return _mm512_setzero_ps(); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F div(F a, F b) { return _mm512_div_ps(a, b); }
  static F max(F a, F b) { return _mm512_max_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F below(F x, float limit, F a, F b) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, set1(limit), _CMP_LT_OQ), b, a);
  }
  static float sum(F v) { return _mm512_reduce_add_ps(v); }
  static float max_lane(F v) { return _mm512_reduce_max_ps(v); }
  static __mmask16 first(int n) {
    return static_cast<__mmask16>(n <= 0 ? 0u : n >= kLanes ? 0xffffu : (1u << n) - 1u);
  }
  static F keep_first(F v, int n, float fill) { return _mm512_mask_blend_ps(first(n), set1(fill), v); }
  static F load_first(const float* p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
  static void store_first(float* p, F v, int n) { _mm512_mask_storeu_ps(p, first(n), v); }

  static F load_f16(const void* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  }
  static F load_bf16(const void* p) {
    const __m256i h = _mm256_loadu_si256(static_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
  }
  static F load_u8(const void* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))));
  }
  static F load_i8(const void* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))));
  }
  static void store_f16(void* p, F v) {
    _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
  // Round to nearest even; NaN stays NaN. (VCVTNEPS2BF16 would flush denormals.)
  static void store_bf16(void* p, F v) {
    const I u = _mm512_castps_si512(v);
    const I odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    const I rounded = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const I quiet = _mm512_or_si512(u, _mm512_set1_epi32(0x400000));
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const I high = _mm512_srli_epi32(_mm512_mask_blend_epi32(nan, rounded, quiet), 16);
    _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtepi32_epi16(high));
  }

  static I load_bits(const void* p) { return _mm512_loadu_si512(p); }
  static I bits_and(I a, int32_t mask) { return _mm512_and_si512(a, _mm512_set1_epi32(mask)); }
  static I bits_or(I a, I b) { return _mm512_or_si512(a, b); }
  template <int N>
  static I shift_left(I a) {
    return _mm512_slli_epi32(a, N);
  }
  template <int N>
  static I shift_right(I a) {
    return _mm512_srli_epi32(a, N);
  }
  static F to_f32(I v) { return _mm512_cvtepi32_ps(v); }
  static F as_f32(I v) { return _mm512_castsi512_ps(v); }
  static I round_i32(F v) { return _mm512_cvtps_epi32(v); }
  static F pow2(I n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
  }

  static I zero_i32() { return _mm512_setzero_si512(); }
  static I set1_i32(int32_t x) { return _mm512_set1_epi32(x); }
  static I add_i32(I a, I b) { return _mm512_add_epi32(a, b); }
  static F abs(F v) { return _mm512_abs_ps(v); }
  static void store_i8(void* p, I v) { _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(v)); }
  static int32_t sum_i32(I v) { return _mm512_reduce_add_epi32(v); }

  template <int Bits>
  static I dot(I sum, I weight, I activation) {
    return _mm512_dpbusd_epi32(sum, weight, activation);
  }
  static constexpr int kOffsetOf8Bits = 128;
};

}  // namespace gantry::cpu

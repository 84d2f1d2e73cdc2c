// Eight lanes: AVX2, FMA, F16C. Interface: generic.h; the int8 part: avx512.h.
#pragma once

#include <cstdint>

#include "kernels/cpu/simd/immintrin_quiet.h"

namespace gantry::cpu {

struct Avx2 {
  static constexpr int kLanes = 8;
  using F = __m256;
  using I = __m256i;

  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, F v) { _mm256_storeu_ps(p, v); }
  static F set1(float x) { return _mm256_set1_ps(x); }
  static F zero() { return _mm256_setzero_ps(); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F div(F a, F b) { return _mm256_div_ps(a, b); }
  static F max(F a, F b) { return _mm256_max_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F below(F x, float limit, F a, F b) {
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, set1(limit), _CMP_LT_OQ));
  }
  static float sum(F v) {
    const __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
  }
  static float max_lane(F v) {
    const __m128 half = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 pair = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)));
  }
  static I first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static F keep_first(F v, int n, float fill) {
    return _mm256_blendv_ps(set1(fill), v, _mm256_castsi256_ps(first(n)));
  }
  static F load_first(const float* p, int n) { return _mm256_maskload_ps(p, first(n)); }
  static void store_first(float* p, F v, int n) { _mm256_maskstore_ps(p, first(n), v); }

  static F load_f16(const void* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  static F load_bf16(const void* p) {
    const __m128i h = _mm_loadu_si128(static_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
  }
  static F load_u8(const void* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p))));
  }
  static F load_i8(const void* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p))));
  }
  static void store_f16(void* p, F v) {
    _mm_storeu_si128(static_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
  // Round to nearest even; NaN stays NaN.
  static void store_bf16(void* p, F v) {
    const I u = _mm256_castps_si256(v);
    const I odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    const I rounded = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const I quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
    const I nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const I high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    const I packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0x08);
    _mm_storeu_si128(static_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
  }

  static I load_bits(const void* p) { return _mm256_loadu_si256(static_cast<const I*>(p)); }
  static I bits_and(I a, int32_t mask) { return _mm256_and_si256(a, _mm256_set1_epi32(mask)); }
  static I bits_or(I a, I b) { return _mm256_or_si256(a, b); }
  template <int N>
  static I shift_left(I a) {
    return _mm256_slli_epi32(a, N);
  }
  template <int N>
  static I shift_right(I a) {
    return _mm256_srli_epi32(a, N);
  }
  static F to_f32(I v) { return _mm256_cvtepi32_ps(v); }
  static F as_f32(I v) { return _mm256_castsi256_ps(v); }
  static I round_i32(F v) { return _mm256_cvtps_epi32(v); }
  static F pow2(I n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
  }

  static I zero_i32() { return _mm256_setzero_si256(); }
  static I set1_i32(int32_t x) { return _mm256_set1_epi32(x); }
  static I add_i32(I a, I b) { return _mm256_add_epi32(a, b); }
  static F abs(F v) { return _mm256_andnot_ps(set1(-0.0f), v); }
  static void store_i8(void* p, I v) {
    const I words = _mm256_permute4x64_epi64(_mm256_packs_epi32(v, v), 0x08);
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_castsi256_si128(words));
    _mm_storel_epi64(static_cast<__m128i*>(p), bytes);
  }
  static int32_t sum_i32(I v) {
    const __m128i half = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    const __m128i pair = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(pair, _mm_shuffle_epi32(pair, 0xb1)));
  }

  // Without VNNI. Up to 6 bits, u8 x s8 pairs fit 16 bits (63 * 127 * 2); the 8-bit quants go back to signed,
  // and the sign moves to the activation (128 * 127 * 2 fits).
  template <int Bits>
  static I dot(I sum, I weight, I activation) {
    I pairs;
    if constexpr (Bits == 8) {
      const I w = _mm256_xor_si256(weight, _mm256_set1_epi8(static_cast<char>(0x80)));
      pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(activation, w));
    } else {
      pairs = _mm256_maddubs_epi16(weight, activation);
    }
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  // What dot<8> has already taken off each quant.
  static constexpr int kOffsetOf8Bits = 0;
};

}  // namespace gantry::cpu

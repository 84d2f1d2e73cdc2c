// FP8 weights with activations rounded to bf16. E4M3 fits bf16 exactly, subnormals too: the bytes of each value
// come from two tables of 128 entries (VPERMI2B). For each output and each block of 128 columns, in ascending
// order: VDPBF16PS over pairs of columns, ascending; then sum = fma(block, scale, sum).
#pragma once

#include <cstdint>

#include "kernels/cpu/simd/immintrin_quiet.h"
#include "kernels/cpu/tile/fp8_tile.h"

namespace gantry::cpu {

struct alignas(64) E4m3Tables {
  uint8_t low[128];   // of the bf16 of magnitude i
  uint8_t high[128];  // without the sign
};

constexpr E4m3Tables make_e4m3_tables() {
  E4m3Tables tables{};
  for (int i = 0; i < 128; ++i) {
    const int exponent = i >> 3, mantissa = i & 7;
    int bits = 0;
    if (exponent > 0) {
      bits = (exponent - 7 + 127) << 7 | mantissa << 4;
    } else if (mantissa > 0) {  // mantissa * 2^-9, normalised
      const int top = mantissa >= 4 ? 2 : mantissa >= 2 ? 1 : 0;
      bits = (127 - 9 + top) << 7 | (mantissa << (7 - top) & 0x7f);
    }
    tables.low[i] = static_cast<uint8_t>(bits & 0xff);
    tables.high[i] = static_cast<uint8_t>(bits >> 8);
  }
  return tables;
}

// Where the bytes of the bf16 pairs of columns (0, 1) and (2, 3) come from: low bytes of 16 rows x 4 columns,
// then high ones.
struct alignas(64) PairOrder {
  uint8_t byte[2][64];
};

constexpr PairOrder make_pair_order() {
  PairOrder order{};
  for (int pair = 0; pair < 2; ++pair) {
    for (int i = 0; i < 64; ++i) {
      const int source = i / 4 * 4 + pair * 2 + i % 4 / 2;
      order.byte[pair][i] = static_cast<uint8_t>(i % 2 == 0 ? source : 64 + source);
    }
  }
  return order;
}

struct Fp8Bf16Tile {
  static constexpr int kRows = 8;
  template <int R>
  static constexpr int columns() {
    return 1;
  }
  template <int R>
  static constexpr int panels() {
    return R == 1 ? 4 : R <= 4 ? 2 : 1;
  }

  template <int R, int C>
  static void run(const uint8_t* const (&x)[R], const uint8_t* panel, int64_t cols, int /*lane*/,
                  __m512 (&out)[R][C]) {
    static_assert(C == 1);
    run_panels<R, 1>(x, panel, 0, cols, out);
  }

  template <int R, int P>
  static void run_panels(const uint8_t* const (&x)[R], const uint8_t* panel, int64_t panel_stride,
                         int64_t cols, __m512 (&out)[R][P]) {
    const Widen widen;
    const uint8_t* groups = panel + fp8_header_bytes(cols);
    __m512 sum[R][P];
    GANTRY_UNROLL
    for (int r = 0; r < R; ++r) {
      GANTRY_UNROLL
      for (int p = 0; p < P; ++p) sum[r][p] = _mm512_setzero_ps();
    }
    for (int64_t first = 0; first < cols; first += kFp8Block) {
      __m512 block[R][P];
      GANTRY_UNROLL
      for (int r = 0; r < R; ++r) {
        GANTRY_UNROLL
        for (int p = 0; p < P; ++p) block[r][p] = _mm512_setzero_ps();
      }
      const int64_t last = cols - first < kFp8Block ? cols : first + kFp8Block;
      for (int64_t k = first; k < last; k += 4) {
        __m512bh pairs[P][2];
        GANTRY_UNROLL
        for (int p = 0; p < P; ++p) widen(groups + p * panel_stride + k * 16, pairs[p]);
        add(x, k, 0, pairs, block);
        if (last - k > 2) add(x, k, 1, pairs, block);
      }
      GANTRY_UNROLL
      for (int p = 0; p < P; ++p) {
        const __m512 scale =
            _mm512_set1_ps(reinterpret_cast<const float*>(panel + p * panel_stride)[first / kFp8Block]);
        GANTRY_UNROLL
        for (int r = 0; r < R; ++r) sum[r][p] = _mm512_fmadd_ps(block[r][p], scale, sum[r][p]);
      }
    }
    GANTRY_UNROLL
    for (int r = 0; r < R; ++r) {
      GANTRY_UNROLL
      for (int p = 0; p < P; ++p) out[r][p] = sum[r][p];
    }
  }

 private:
  // 16 rows x 4 columns of codes to bf16 pairs of columns (0, 1) and (2, 3) in each row's lane.
  struct Widen {
    static constexpr E4m3Tables kTables = make_e4m3_tables();
    static constexpr PairOrder kOrder = make_pair_order();

    __m512i low[2] = {_mm512_load_si512(kTables.low), _mm512_load_si512(kTables.low + 64)};
    __m512i high[2] = {_mm512_load_si512(kTables.high), _mm512_load_si512(kTables.high + 64)};
    __m512i order[2] = {_mm512_load_si512(kOrder.byte[0]), _mm512_load_si512(kOrder.byte[1])};

    __attribute__((always_inline)) void operator()(const uint8_t* group, __m512bh (&pairs)[2]) const {
      const __m512i codes = _mm512_loadu_si512(group);
      const __m512i l = _mm512_permutex2var_epi8(low[0], codes, low[1]);
      const __m512i magnitude = _mm512_permutex2var_epi8(high[0], codes, high[1]);
      constexpr int kOrOfAnd = 0xf8;  // a | (b & c)
      const __m512i h =
          _mm512_ternarylogic_epi32(magnitude, codes, _mm512_set1_epi8(static_cast<char>(0x80)), kOrOfAnd);
      pairs[0] = reinterpret_cast<__m512bh>(_mm512_permutex2var_epi8(l, order[0], h));
      pairs[1] = reinterpret_cast<__m512bh>(_mm512_permutex2var_epi8(l, order[1], h));
    }
  };

  template <int R, int P>
  __attribute__((always_inline)) static void add(const uint8_t* const (&x)[R], int64_t k, int pair,
                                                 const __m512bh (&pairs)[P][2], __m512 (&block)[R][P]) {
    GANTRY_UNROLL
    for (int r = 0; r < R; ++r) {
      int32_t columns;
      __builtin_memcpy(&columns, x[r] + (k + pair * 2) * 2, sizeof(columns));
      const auto a = reinterpret_cast<__m512bh>(_mm512_set1_epi32(columns));
      GANTRY_UNROLL
      for (int p = 0; p < P; ++p) block[r][p] = _mm512_dpbf16_ps(block[r][p], pairs[p][pair], a);
    }
  }
};

}  // namespace gantry::cpu

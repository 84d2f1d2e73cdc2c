// BF16 weights with activations rounded to bf16: VDPBF16PS, a pair of columns a step, pairs ascending. It
// rounds inside as its manual says (no denormals), the same for every tile.
#pragma once

#include <cstdint>

#include "kernels/cpu/simd/immintrin_quiet.h"
#include "kernels/cpu/tile/gemm.h"

namespace gantry::cpu {

struct Bf16Tile {
  static constexpr int kRows = 8;
  template <int R>
  static constexpr int columns() {
    return 1;
  }

  template <int R, int C>
  static void run(const uint8_t* const (&x)[R], const uint8_t* panel, int64_t cols, int /*lane*/,
                  __m512 (&out)[R][C]) {
    __m512 sum[R][C];
    GANTRY_UNROLL
    for (int r = 0; r < R; ++r) sum[r][0] = _mm512_setzero_ps();
    const int64_t pairs = (cols + 1) / 2;
    for (int64_t k = 0; k < pairs; ++k) {
      const auto w = reinterpret_cast<__m512bh>(_mm512_loadu_si512(panel + k * 64));
      GANTRY_UNROLL
      for (int r = 0; r < R; ++r) {
        int32_t pair;
        __builtin_memcpy(&pair, x[r] + k * 4, sizeof(pair));
        sum[r][0] = _mm512_dpbf16_ps(sum[r][0], w, reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair)));
      }
    }
    GANTRY_UNROLL
    for (int r = 0; r < R; ++r) out[r][0] = sum[r][0];
  }
};

}  // namespace gantry::cpu

// Tiles of block-format weights with int8 activations. For each output and each block of 32 columns, in
// ascending order: an exact integer dot product, then sum = fma(dot, d * scale, sum), then
// sum = fma(m, scaled_sum, sum) for formats with a minimum.
#pragma once

#include <cstdint>

#include "kernels/cpu/activation.h"
#include "kernels/cpu/tile/block_format.h"
#include "kernels/cpu/tile/gemm.h"

namespace gantry::cpu {

constexpr int log2_of(int x) { return x <= 1 ? 0 : 1 + log2_of(x / 2); }

template <class V, class Format>
struct Int8Tile {
  static constexpr int kRows = V::kLanes == 16 ? 8 : 4;
  template <int R>
  static constexpr int columns() {
    return R >= 4 ? 1 : 2;
  }
  // What each quant is above its value when it enters the dot product.
  static constexpr int kOffset = Format::kBits == 8 ? V::kOffsetOf8Bits : Format::kOffset;
  static constexpr bool kHalves = Format::kScales == Scales::kHalves;

  template <int R, int C>
  static void run(const uint8_t* const (&x)[R], const uint8_t* panel, int64_t cols, int lane,
                  typename V::F (&out)[R][C]) {
    using F = typename V::F;
    using I = typename V::I;
    F sum[R][C];  // not `out`: vector types may alias anything, and would be stored at each step
    GANTRY_UNROLL
    for (int r = 0; r < R; ++r) {
      GANTRY_UNROLL
      for (int c = 0; c < C; ++c) sum[r][c] = V::zero();
    }
    const int64_t blocks = cols / 32;
    for (int64_t b = 0; b < blocks; ++b) {
      const uint8_t* quants = Format::quants(panel, b);
      const Int8Block* a[R];
      I dot[R][C], dot_last[R][C];
      GANTRY_UNROLL
      for (int r = 0; r < R; ++r) {
        a[r] = reinterpret_cast<const Int8Block*>(x[r]) + b;
        GANTRY_UNROLL
        for (int c = 0; c < C; ++c) {
          dot[r][c] = kOffset == 0 ? V::zero_i32()
                      : kHalves    ? V::set1_i32(a[r]->neg_half[0] * kOffset)
                                   : V::template shift_left<log2_of(kOffset)>(V::set1_i32(a[r]->neg_sum));
          dot_last[r][c] = kHalves ? V::set1_i32(a[r]->neg_half[1] * kOffset) : V::zero_i32();
        }
      }
      unroll<4>([&]<int J>() __attribute__((always_inline)) {
        I low[C], high[C];
        GANTRY_UNROLL
        for (int c = 0; c < C; ++c)
          Format::template pair<V, J>(quants, lane + c * V::kLanes, low[c], high[c]);
        GANTRY_UNROLL
        for (int r = 0; r < R; ++r) {
          const I a_low = set1_bytes(a[r]->q + J * 4), a_high = set1_bytes(a[r]->q + 16 + J * 4);
          GANTRY_UNROLL
          for (int c = 0; c < C; ++c) {
            dot[r][c] = V::template dot<Format::kBits>(dot[r][c], low[c], a_low);
            // Without halves, two chains only where there are too few rows to hide the latency.
            if constexpr (kHalves || R <= 2) {
              dot_last[r][c] = V::template dot<Format::kBits>(dot_last[r][c], high[c], a_high);
            } else {
              dot[r][c] = V::template dot<Format::kBits>(dot[r][c], high[c], a_high);
            }
          }
        }
      });
      GANTRY_UNROLL
      for (int c = 0; c < C; ++c) {
        F first, second;
        Format::template scales<V>(panel, b, lane + c * V::kLanes, first, second);
        GANTRY_UNROLL
        for (int r = 0; r < R; ++r) {
          const F scale = V::set1(a[r]->scale);
          if constexpr (kHalves) {
            sum[r][c] = V::fma(V::to_f32(dot[r][c]), V::mul(first, scale), sum[r][c]);
            sum[r][c] = V::fma(V::to_f32(dot_last[r][c]), V::mul(second, scale), sum[r][c]);
          } else {
            const I all = R <= 2 ? V::add_i32(dot[r][c], dot_last[r][c]) : dot[r][c];
            sum[r][c] = V::fma(V::to_f32(all), V::mul(first, scale), sum[r][c]);
            if constexpr (Format::kHasMin) {
              sum[r][c] = V::fma(second, V::set1(a[r]->scaled_sum), sum[r][c]);
            }
          }
        }
      }
    }
    GANTRY_UNROLL
    for (int r = 0; r < R; ++r) {
      GANTRY_UNROLL
      for (int c = 0; c < C; ++c) out[r][c] = sum[r][c];
    }
  }

 private:
  static typename V::I set1_bytes(const int8_t* p) {
    int32_t bytes;
    __builtin_memcpy(&bytes, p, sizeof(bytes));
    return V::set1_i32(bytes);
  }
};

template <class V>
void fill_int8_gemms(MicroKernels& kernels) {
  const auto set = [&](DType dtype, GemmKernel kernel) {
    kernels.gemm_fast[static_cast<size_t>(dtype)] = kernel;
    kernels.fast_kind[static_cast<size_t>(dtype)] = ActivationKind::kInt8;
  };
  set(DType::kQ4_0, gemm<V, Int8Tile<V, Q4_0>>);
  set(DType::kQ4_1, gemm<V, Int8Tile<V, Q4_1>>);
  set(DType::kQ5_0, gemm<V, Int8Tile<V, Q5_0>>);
  set(DType::kQ5_1, gemm<V, Int8Tile<V, Q5_1>>);
  set(DType::kQ8_0, gemm<V, Int8Tile<V, Q8_0>>);
  set(DType::kQ4_K, gemm<V, Int8Tile<V, Q4_K>>);
  set(DType::kQ5_K, gemm<V, Int8Tile<V, Q5_K>>);
  set(DType::kQ6_K, gemm<V, Int8Tile<V, Q6_K>>);
}

}  // namespace gantry::cpu

// Tiles with f32 activations: float weights widened, block formats dequantised exactly, in registers. Each
// output adds its products in ascending column order, one fused multiply-add each.
#pragma once

#include <cstdint>

#include "kernels/cpu/tile/block_format.h"
#include "kernels/cpu/tile/gemm.h"

namespace gantry::cpu {

// Rows that keep every accumulator in registers: 8 of 32, 2 x 4 of 16.
template <class V>
struct FloatTileShape {
  static constexpr int kRows = V::kLanes == 16 ? 8 : V::kLanes == 8 ? 4 : 2;
  template <int R>
  static constexpr int columns() {
    return 4;
  }
};

struct F32Weights {
  static constexpr int kStep = 1;  // columns read at once
  template <class V>
  static void load(const uint8_t* panel, int64_t k, int lane, typename V::F* w) {
    w[0] = V::load(reinterpret_cast<const float*>(panel) + k * 16 + lane);
  }
};
struct F16Weights {
  static constexpr int kStep = 1;
  template <class V>
  static void load(const uint8_t* panel, int64_t k, int lane, typename V::F* w) {
    w[0] = V::load_f16(panel + (k * 16 + lane) * 2);
  }
};
struct Bf16Weights {
  static constexpr int kStep = 2;  // k is even: columns k and k + 1 lie in one lane
  template <class V>
  static void load(const uint8_t* panel, int64_t k, int lane, typename V::F* w) {
    const typename V::I both = V::load_bits(panel + (k / 2 * 16 + lane) * 4);
    w[0] = V::as_f32(V::template shift_left<16>(both));
    w[1] = V::as_f32(V::bits_and(both, static_cast<int32_t>(0xffff0000)));
  }
};

template <class V, class Weights>
struct FloatTile : FloatTileShape<V> {
  template <int R, int C>
  static void run(const uint8_t* const (&x)[R], const uint8_t* panel, int64_t cols, int lane,
                  typename V::F (&out)[R][C]) {
    const float* xf[R];
    typename V::F sum[R][C];  // not `out`: vector types may alias anything, and would be stored at each step
    GANTRY_UNROLL
    for (int r = 0; r < R; ++r) {
      xf[r] = reinterpret_cast<const float*>(x[r]);
      GANTRY_UNROLL
      for (int c = 0; c < C; ++c) sum[r][c] = V::zero();
    }
    constexpr int kStep = Weights::kStep;
    const int64_t whole = cols - cols % kStep;
    for (int64_t k = 0; k < whole; k += kStep) add<R, C, kStep>(xf, panel, k, lane, sum);
    if constexpr (kStep == 2) {
      if (whole < cols) add<R, C, 1>(xf, panel, whole, lane, sum);
    }
    GANTRY_UNROLL
    for (int r = 0; r < R; ++r) {
      GANTRY_UNROLL
      for (int c = 0; c < C; ++c) out[r][c] = sum[r][c];
    }
  }

 private:
  template <int R, int C, int Used>
  __attribute__((always_inline)) static void add(const float* const (&x)[R], const uint8_t* panel, int64_t k,
                                                 int lane, typename V::F (&sum)[R][C]) {
    typename V::F w[C][Weights::kStep];
    GANTRY_UNROLL
    for (int c = 0; c < C; ++c) Weights::template load<V>(panel, k, lane + c * V::kLanes, w[c]);
    GANTRY_UNROLL
    for (int j = 0; j < Used; ++j) {
      GANTRY_UNROLL
      for (int r = 0; r < R; ++r) {
        const typename V::F a = V::set1(x[r][k + j]);
        GANTRY_UNROLL
        for (int c = 0; c < C; ++c) sum[r][c] = V::fma(w[c][j], a, sum[r][c]);
      }
    }
  }
};

template <class V, class Format>
struct BlockFloatTile : FloatTileShape<V> {
  template <int R, int C>
  static void run(const uint8_t* const (&x)[R], const uint8_t* panel, int64_t cols, int lane,
                  typename V::F (&out)[R][C]) {
    const float* xf[R];
    typename V::F sum[R][C];  // not `out`: vector types may alias anything, and would be stored at each step
    GANTRY_UNROLL
    for (int r = 0; r < R; ++r) {
      xf[r] = reinterpret_cast<const float*>(x[r]);
      GANTRY_UNROLL
      for (int c = 0; c < C; ++c) sum[r][c] = V::zero();
    }
    const int64_t blocks = cols / 32;
    for (int64_t b = 0; b < blocks; ++b) {
      const uint8_t* quants = Format::quants(panel, b);
      typename V::F first[C], second[C];
      GANTRY_UNROLL
      for (int c = 0; c < C; ++c)
        Format::template scales<V>(panel, b, lane + c * V::kLanes, first[c], second[c]);
      // Ascending columns: the low groups of all four pairs, then the high ones.
      unroll<4>([&]<int J>() __attribute__((always_inline)) {
        typename V::I low[C], high[C];
        GANTRY_UNROLL
        for (int c = 0; c < C; ++c)
          Format::template pair<V, J>(quants, lane + c * V::kLanes, low[c], high[c]);
        add<R, C>(xf, b * 32 + J * 4, low, first, second, sum);
      });
      unroll<4>([&]<int J>() __attribute__((always_inline)) {
        typename V::I low[C], high[C];
        GANTRY_UNROLL
        for (int c = 0; c < C; ++c)
          Format::template pair<V, J>(quants, lane + c * V::kLanes, low[c], high[c]);
        if constexpr (Format::kScales == Scales::kHalves) {
          add<R, C>(xf, b * 32 + 16 + J * 4, high, second, second, sum);
        } else {
          add<R, C>(xf, b * 32 + 16 + J * 4, high, first, second, sum);
        }
      });
    }
    GANTRY_UNROLL
    for (int r = 0; r < R; ++r) {
      GANTRY_UNROLL
      for (int c = 0; c < C; ++c) out[r][c] = sum[r][c];
    }
  }

 private:
  template <int R, int C>
  __attribute__((always_inline)) static void add(const float* const (&x)[R], int64_t k,
                                                 const typename V::I (&q)[C], const typename V::F (&d)[C],
                                                 const typename V::F (&m)[C], typename V::F (&sum)[R][C]) {
    unroll<4>([&]<int J>() __attribute__((always_inline)) {
      typename V::F w[C];
      GANTRY_UNROLL
      for (int c = 0; c < C; ++c) {
        const typename V::F value = V::to_f32(V::bits_and(V::template shift_right<8 * J>(q[c]), 0xff));
        if constexpr (Format::kHasMin) {
          w[c] = V::fma(value, d[c], m[c]);
        } else {
          w[c] = V::mul(V::sub(value, V::set1(static_cast<float>(Format::kOffset))), d[c]);
        }
      }
      GANTRY_UNROLL
      for (int r = 0; r < R; ++r) {
        const typename V::F a = V::set1(x[r][k + J]);
        GANTRY_UNROLL
        for (int c = 0; c < C; ++c) sum[r][c] = V::fma(w[c], a, sum[r][c]);
      }
    });
  }
};

template <class V>
void fill_float_gemms(MicroKernels& kernels) {
  const auto set = [&](DType dtype, GemmKernel kernel) { kernels.gemm[static_cast<size_t>(dtype)] = kernel; };
  set(DType::kF32, gemm<V, FloatTile<V, F32Weights>>);
  set(DType::kF16, gemm<V, FloatTile<V, F16Weights>>);
  set(DType::kBF16, gemm<V, FloatTile<V, Bf16Weights>>);
  set(DType::kQ4_0, gemm<V, BlockFloatTile<V, Q4_0>>);
  set(DType::kQ4_1, gemm<V, BlockFloatTile<V, Q4_1>>);
  set(DType::kQ5_0, gemm<V, BlockFloatTile<V, Q5_0>>);
  set(DType::kQ5_1, gemm<V, BlockFloatTile<V, Q5_1>>);
  set(DType::kQ8_0, gemm<V, BlockFloatTile<V, Q8_0>>);
  set(DType::kQ4_K, gemm<V, BlockFloatTile<V, Q4_K>>);
  set(DType::kQ5_K, gemm<V, BlockFloatTile<V, Q5_K>>);
  set(DType::kQ6_K, gemm<V, BlockFloatTile<V, Q6_K>>);
}

}  // namespace gantry::cpu

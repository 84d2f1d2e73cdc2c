// FP8 weights with f32 activations: e4m3 widened exactly in registers. For each output and each block of 128
// columns, in ascending order: the block's products, in ascending column order, one fused multiply-add each;
// then sum = fma(block, scale, sum).
#pragma once

#include <cstdint>

#include "kernels/cpu/tile/float_tile.h"

namespace gantry::cpu {

inline constexpr int64_t kFp8Block = 128;  // columns of one scale

// The scales that a panel begins with, in bytes (weight_layout.h).
constexpr int64_t fp8_header_bytes(int64_t cols) {
  return ((cols + kFp8Block - 1) / kFp8Block * 4 + 63) / 64 * 64;
}

template <class V>
struct Fp8Tile : FloatTileShape<V> {
  template <int R>
  static constexpr int panels() {
    return V::kLanes < 16 ? 1 : R == 1 ? 4 : R <= 4 ? 2 : 1;
  }

  template <int R, int C>
  static void run(const uint8_t* const (&x)[R], const uint8_t* panel, int64_t cols, int lane,
                  typename V::F (&out)[R][C]) {
    run_vectors<R, C>(x, {panel, 0, lane * 4, V::kLanes * 4}, cols, out);
  }
  template <int R, int P>
  static void run_panels(const uint8_t* const (&x)[R], const uint8_t* panel, int64_t panel_stride,
                         int64_t cols, typename V::F (&out)[R][P]) {
    run_vectors<R, P>(x, {panel, panel_stride, 0, panel_stride}, cols, out);
  }

 private:
  // Vector c of lanes: its panel is at panel + c * panel_stride, its lanes at panel + first + c * stride (bytes).
  struct Vectors {
    const uint8_t* panel;
    int64_t panel_stride;
    int64_t first;
    int64_t stride;
  };

  template <int R, int C>
  __attribute__((always_inline)) static void run_vectors(const uint8_t* const (&x)[R], const Vectors& vectors,
                                                         int64_t cols, typename V::F (&out)[R][C]) {
    const float* xf[R];
    typename V::F sum[R][C];  // not `out`: vector types may alias anything, and would be stored at each step
    GANTRY_UNROLL
    for (int r = 0; r < R; ++r) {
      xf[r] = reinterpret_cast<const float*>(x[r]);
      GANTRY_UNROLL
      for (int c = 0; c < C; ++c) sum[r][c] = V::zero();
    }
    const uint8_t* groups = vectors.panel + vectors.first + fp8_header_bytes(cols);
    for (int64_t first = 0; first < cols; first += kFp8Block) {
      typename V::F block[R][C];
      GANTRY_UNROLL
      for (int r = 0; r < R; ++r) {
        GANTRY_UNROLL
        for (int c = 0; c < C; ++c) block[r][c] = V::zero();
      }
      const int64_t last = cols - first < kFp8Block ? cols : first + kFp8Block;
      int64_t k = first;
      for (; k + 4 <= last; k += 4) add<R, C, 4>(xf, groups + k * 16, vectors.stride, k, block);
      if (last - k == 3) add<R, C, 3>(xf, groups + k * 16, vectors.stride, k, block);
      if (last - k == 2) add<R, C, 2>(xf, groups + k * 16, vectors.stride, k, block);
      if (last - k == 1) add<R, C, 1>(xf, groups + k * 16, vectors.stride, k, block);
      GANTRY_UNROLL
      for (int c = 0; c < C; ++c) {
        const auto* scales = reinterpret_cast<const float*>(vectors.panel + c * vectors.panel_stride);
        const typename V::F scale = V::set1(scales[first / kFp8Block]);
        GANTRY_UNROLL
        for (int r = 0; r < R; ++r) sum[r][c] = V::fma(block[r][c], scale, sum[r][c]);
      }
    }
    GANTRY_UNROLL
    for (int r = 0; r < R; ++r) {
      GANTRY_UNROLL
      for (int c = 0; c < C; ++c) out[r][c] = sum[r][c];
    }
  }

  // The first `Used` columns of the group of four at k; vector c's codes are at group + c * stride.
  template <int R, int C, int Used>
  __attribute__((always_inline)) static void add(const float* const (&x)[R], const uint8_t* group,
                                                 int64_t stride, int64_t k, typename V::F (&block)[R][C]) {
    typename V::I codes[C];
    GANTRY_UNROLL
    for (int c = 0; c < C; ++c) codes[c] = V::load_bits(group + c * stride);
    unroll<Used>([&]<int J>() __attribute__((always_inline)) {
      typename V::F w[C];
      GANTRY_UNROLL
      for (int c = 0; c < C; ++c) w[c] = widen<J>(codes[c]);
      GANTRY_UNROLL
      for (int r = 0; r < R; ++r) {
        const typename V::F a = V::set1(x[r][k + J]);
        GANTRY_UNROLL
        for (int c = 0; c < C; ++c) block[r][c] = V::fma(w[c], a, block[r][c]);
      }
    });
  }

  // Byte J of each lane. In f32's places the bits have the value times 2^(7 - 127), subnormals too.
  template <int J>
  __attribute__((always_inline)) static typename V::F widen(typename V::I codes) {
    const typename V::I top = V::template shift_left<24 - 8 * J>(codes);
    const typename V::I magnitude = V::bits_and(V::template shift_right<4>(top), 0x07f00000);
    const typename V::I sign = V::bits_and(top, static_cast<int32_t>(0x80000000));
    return V::mul(V::as_f32(V::bits_or(magnitude, sign)), V::set1(0x1p120f));
  }
};

}  // namespace gantry::cpu

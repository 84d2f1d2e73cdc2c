// The loop over rows and panels around a tile. A tile computes R rows x C vectors of lanes of one panel;
// every output has its own accumulator and the same sequence of operations whatever R and C are.
#pragma once

#include <cstdint>

#include "kernels/cpu/micro_kernels.h"

// Before a loop with a constant count: g++ -O2 keeps such loops, and their vectors in memory.
#if defined(__clang__)
#define GANTRY_UNROLL _Pragma("unroll")
#else
#define GANTRY_UNROLL _Pragma("GCC unroll 16")
#endif

namespace gantry::cpu {

// Calls f<0>() ... f<N - 1>().
template <int N, int I = 0, class Fn>
__attribute__((always_inline)) inline void unroll(const Fn& f) {
  if constexpr (I < N) {
    f.template operator()<I>();
    unroll<N, I + 1>(f);
  }
}

// Panels that a tile takes side by side: more chains of additions where there are few rows.
template <class Tile, int R>
constexpr int panels_of() {
  if constexpr (requires { Tile::template panels<R>(); }) {
    return Tile::template panels<R>();
  } else {
    return 1;
  }
}

// The R rows that one pass of a tile works on.
template <int R>
struct GemmRows {
  const uint8_t* x[R];
  float* out[R];
  float scale[R];
};

// Finishes and stores the V::kLanes outputs from column n of each row.
template <class V, int R>
[[gnu::always_inline]] inline void store_lanes(const GemmCall& call, const GemmRows<R>& rows, int64_t n,
                                               const typename V::F (&sum)[R]) {
  const int64_t valid = call.out_columns - n;
  if (valid <= 0) return;
  GANTRY_UNROLL
  for (int r = 0; r < R; ++r) {
    typename V::F y = sum[r];
    if (call.bias) y = V::add(y, V::load(call.bias + n));
    if (call.row_scale) y = V::mul(y, V::set1(rows.scale[r]));
    if (valid >= V::kLanes) {
      if (call.accumulate) y = V::add(V::load(rows.out[r] + n), y);
      V::store(rows.out[r] + n, y);
    } else {
      const int count = static_cast<int>(valid);
      if (call.accumulate) y = V::add(V::load_first(rows.out[r] + n, count), y);
      V::store_first(rows.out[r] + n, y, count);
    }
  }
}

template <class V, class Tile, int R>
void gemm_rows(const GemmCall& call, int64_t first_row) {
  // Vectors of lanes in one pass over a panel's columns: the whole panel for few rows.
  constexpr int kVectors = 16 / V::kLanes;
  constexpr int C = Tile::template columns<R>() < kVectors ? Tile::template columns<R>() : kVectors;
  GemmRows<R> rows;
  GANTRY_UNROLL
  for (int r = 0; r < R; ++r) {
    const int64_t row = first_row + r;
    rows.x[r] = static_cast<const uint8_t*>(call.x) + (call.x_rows ? call.x_rows[row] : row) * call.x_stride;
    rows.out[r] = call.out + (call.out_rows ? call.out_rows[row] : row) * call.out_stride;
    rows.scale[r] = call.row_scale ? call.row_scale[row] : 1.0f;
  }
  constexpr int P = panels_of<Tile, R>();
  int64_t p = 0;
  if constexpr (P > 1) {
    static_assert(kVectors == 1);
    for (; p + P <= call.panel_count; p += P) {
      typename V::F sum[R][P];
      Tile::template run_panels<R, P>(rows.x, call.panels + p * call.panel_stride, call.panel_stride,
                                      call.cols, sum);
      GANTRY_UNROLL
      for (int i = 0; i < P; ++i) {
        typename V::F column[R];
        GANTRY_UNROLL
        for (int r = 0; r < R; ++r) column[r] = sum[r][i];
        store_lanes<V, R>(call, rows, (p + i) * 16, column);
      }
    }
  }
  for (; p < call.panel_count; ++p) {
    const uint8_t* panel = call.panels + p * call.panel_stride;
    for (int lane = 0; lane < 16; lane += C * V::kLanes) {
      typename V::F sum[R][C];
      Tile::template run<R, C>(rows.x, panel, call.cols, lane, sum);
      GANTRY_UNROLL
      for (int c = 0; c < C; ++c) {
        typename V::F column[R];
        GANTRY_UNROLL
        for (int r = 0; r < R; ++r) column[r] = sum[r][c];
        store_lanes<V, R>(call, rows, p * 16 + lane + c * V::kLanes, column);
      }
    }
  }
}

template <class V, class Tile>
void gemm(const GemmCall& call) {
  int64_t row = 0;
  for (; row + Tile::kRows <= call.rows; row += Tile::kRows) gemm_rows<V, Tile, Tile::kRows>(call, row);
  if constexpr (Tile::kRows > 4) {
    if (call.rows - row >= 4) {
      gemm_rows<V, Tile, 4>(call, row);
      row += 4;
    }
  }
  if constexpr (Tile::kRows > 2) {
    if (call.rows - row >= 2) {
      gemm_rows<V, Tile, 2>(call, row);
      row += 2;
    }
  }
  if (call.rows > row) gemm_rows<V, Tile, 1>(call, row);
}

}  // namespace gantry::cpu

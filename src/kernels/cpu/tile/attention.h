// Attention over tiles of one KV block (64 positions), softmax online (Milakov and Gimelshein, arXiv
// 1805.02867; tiles as in FlashAttention, arXiv 2205.14135). The order for one query vector depends on its
// position alone: tiles ascending, columns ascending inside a score, positions ascending inside a value sum.
#pragma once

#include <cstdint>

#include "kernels/cpu/tile/elementwise.h"
#include "kernels/cpu/tile/gemm.h"

namespace gantry::cpu {

inline constexpr int kTile = limits::kKvBlockTokens;

// Elements of the cache: how they are read, and their bytes.
struct CacheF32 {
  static constexpr int kBytes = 4;
  template <class V>
  static typename V::F load(const uint8_t* p) {
    return V::load(reinterpret_cast<const float*>(p));
  }
};
struct CacheF16 {
  static constexpr int kBytes = 2;
  template <class V>
  static typename V::F load(const uint8_t* p) {
    return V::load_f16(p);
  }
};
struct CacheBF16 {
  static constexpr int kBytes = 2;
  template <class V>
  static typename V::F load(const uint8_t* p) {
    return V::load_bf16(p);
  }
};

template <class V, class Cache>
struct Attention {
  using F = typename V::F;
  static constexpr int kLanes = V::kLanes;
  // Query vectors that share a converted key or value: with 4 vectors of lanes each, 24 of 32 registers or 12
  // of 16.
  static constexpr int kRowsMax = kLanes == 16 ? 6 : 3;
  static constexpr int kCacheBytes = Cache::kBytes;

  static void run(const AttendCall& call) {
    const int width = (call.value_dim + 15) / 16 * 16;
    for (int v = 0; v < call.vectors; ++v) {
      call.max[v] = -__builtin_inff();
      call.weight[v] = 0.0f;
      for (int i = 0; i < width; i += kLanes) V::store(call.sums + v * width + i, V::zero());
    }
    const auto tile = [](const void* const* tiles, int t) { return static_cast<const uint8_t*>(tiles[t]); };
    int first = 0;  // vectors before it see nothing of the tile
    for (int t = 0; t < call.tiles; ++t) {
      const int start = (call.first_tile + t) * kTile;
      while (first < call.vectors && call.visible[first] <= start) ++first;
      const uint8_t* keys = tile(call.keys, t);
      const uint8_t* values = tile(call.values, t);
      const uint8_t* next_keys = t + 1 < call.tiles ? tile(call.keys, t + 1) : keys;
      for (int v = first; v < call.vectors;) {
        v += by_rows<kRowsMax>(call.vectors - v, [&]<int R>() {
          const int seen = seen_of(call, v + R - 1, start);
          if (call.keys_by_row) {
            scores_by_row<R>(call, keys, v, seen);
          } else {
            scores_by_column<R>(call, keys, v, seen, v == first ? values : keys);
          }
        });
      }
      float correction[kVectorsMax];
      for (int v = first; v < call.vectors; ++v) correction[v] = softmax(call, v, call.visible[v] - start);
      for (int v = first; v < call.vectors;) {
        // Vectors that see the same positions of the tile: nothing is multiplied by a weight of zero, so that
        // a later position cannot reach an earlier row, even as infinity.
        const int seen = seen_of(call, v, start);
        int same = v + 1;
        while (same < call.vectors && seen_of(call, same, start) == seen) ++same;
        while (v < same) {
          v += by_rows<kRowsMax>(same - v, [&]<int R>() {
            add_values<R>(call, values, v, seen, correction, v == first ? next_keys : values);
          });
        }
      }
    }
  }

 private:
  static int seen_of(const AttendCall& call, int v, int start) {
    const int seen = call.visible[v] - start;
    return seen < kTile ? seen : kTile;
  }

  // Calls f with the largest R that fits; returns R.
  template <int R, class Fn>
  static int by_rows(int left, const Fn& f) {
    if constexpr (R > 1) {
      if (left < R) return by_rows<R - 1>(left, f);
    }
    f.template operator()<R>();
    return R;
  }

  // Lanes are positions: no sum across lanes. `prefetched` is read next and comes into the cache meanwhile: a
  // decode step waits for memory, and tiles lie apart.
  template <int R>
  static void scores_by_column(const AttendCall& call, const uint8_t* keys, int v, int seen,
                               const uint8_t* prefetched) {
    int position = 0;
    for (; position + 4 * kLanes <= kTile && position + 3 * kLanes < seen; position += 4 * kLanes) {
      score_columns<R, 4>(call, keys, v, position, position == 0 ? prefetched : keys);
    }
    for (; position < seen; position += kLanes) score_columns<R, 1>(call, keys, v, position, keys);
  }

  template <int R, int C>
  static void score_columns(const AttendCall& call, const uint8_t* keys, int v, int position,
                            const uint8_t* prefetched) {
    F sum[R][C];
    const float* q[R];
    GANTRY_UNROLL
    for (int r = 0; r < R; ++r) {
      q[r] = call.q[v + r];
      GANTRY_UNROLL
      for (int c = 0; c < C; ++c) sum[r][c] = V::zero();
    }
    const uint8_t* k = keys + position * kCacheBytes;
    for (int d = 0; d < call.key_dim; ++d) {
      F key[C];
      GANTRY_UNROLL
      for (int c = 0; c < C; ++c) key[c] = Cache::template load<V>(k + c * kLanes * kCacheBytes);
      k += kTile * kCacheBytes;
      GANTRY_UNROLL
      for (int line = 0; line < kTile * kCacheBytes; line += 64) __builtin_prefetch(prefetched + line);
      prefetched += kTile * kCacheBytes;
      GANTRY_UNROLL
      for (int r = 0; r < R; ++r) {
        const F value = V::set1(q[r][d]);
        GANTRY_UNROLL
        for (int c = 0; c < C; ++c) sum[r][c] = V::fma(value, key[c], sum[r][c]);
      }
    }
    GANTRY_UNROLL
    for (int r = 0; r < R; ++r) {
      GANTRY_UNROLL
      for (int c = 0; c < C; ++c) {
        V::store(call.scores + (v + r) * kTile + position + c * kLanes,
                 V::mul(sum[r][c], V::set1(call.scale)));
      }
    }
  }

  // Lanes are dimensions of the key, for caches that hold a token's vector in one piece (MLA).
  template <int R>
  static void scores_by_row(const AttendCall& call, const uint8_t* keys, int v, int seen) {
    constexpr int T = 4;  // positions at once; rows at once keep the accumulators in registers
    const int whole = call.key_dim / kLanes * kLanes, rest = call.key_dim - whole;
    for (int position = 0; position < seen && position < kTile; position += T) {
      F sum[R][T];
      GANTRY_UNROLL
      for (int r = 0; r < R; ++r) {
        GANTRY_UNROLL
        for (int t = 0; t < T; ++t) sum[r][t] = V::zero();
      }
      const uint8_t* k = keys + position * call.key_stride * kCacheBytes;
      for (int d = 0; d < call.key_dim; d += kLanes) {
        F key[T];
        GANTRY_UNROLL
        for (int t = 0; t < T; ++t)
          key[t] = Cache::template load<V>(k + (t * call.key_stride + d) * kCacheBytes);
        GANTRY_UNROLL
        for (int r = 0; r < R; ++r) {
          const F q = d < whole ? V::load(call.q[v + r] + d) : V::load_first(call.q[v + r] + d, rest);
          GANTRY_UNROLL
          for (int t = 0; t < T; ++t) sum[r][t] = V::fma(q, key[t], sum[r][t]);
        }
      }
      GANTRY_UNROLL
      for (int r = 0; r < R; ++r) {
        GANTRY_UNROLL
        for (int t = 0; t < T; ++t)
          call.scores[(v + r) * kTile + position + t] = V::sum(sum[r][t]) * call.scale;
      }
    }
  }

  // Scores of vector v to weights; returns the factor for what earlier tiles left.
  static float softmax(const AttendCall& call, int v, int seen) {
    constexpr int C = kTile / kLanes;
    float* scores = call.scores + v * kTile;
    F s[C], largest[4];
    GANTRY_UNROLL
    for (int c = 0; c < C; ++c) {
      s[c] = V::load(scores + c * kLanes);
      if (seen < (c + 1) * kLanes) s[c] = V::keep_first(s[c], seen - c * kLanes, -__builtin_inff());
      largest[c % 4] = c < 4 ? s[c] : V::max(s[c], largest[c % 4]);
    }
    const float tile_max =
        V::max_lane(V::max(V::max(largest[0], largest[1]), V::max(largest[2], largest[3])));
    const float old_max = call.max[v];
    const float new_max = tile_max > old_max ? tile_max : old_max;
    F sum[4];
    GANTRY_UNROLL
    for (int c = 0; c < C; ++c) {
      const F weight = exp<V>(V::sub(s[c], V::set1(new_max)));
      V::store(scores + c * kLanes, weight);
      sum[c % 4] = c < 4 ? weight : V::add(sum[c % 4], weight);
    }
    alignas(64) float factor[kLanes];
    V::store(factor, exp<V>(V::set1(old_max - new_max)));
    call.max[v] = new_max;
    call.weight[v] =
        call.weight[v] * factor[0] + V::sum(V::add(V::add(sum[0], sum[1]), V::add(sum[2], sum[3])));
    return factor[0];
  }

  template <int R>
  static void add_values(const AttendCall& call, const uint8_t* values, int v, int seen,
                         const float* correction, const uint8_t* prefetched) {
    const int width = (call.value_dim + 15) / 16 * 16;
    int column = 0;
    for (; column + 4 * kLanes <= width; column += 4 * kLanes) {
      add_columns<R, 4>(call, values, v, seen, correction, column, column == 0 ? prefetched : values);
    }
    for (; column < width; column += kLanes)
      add_columns<R, 1>(call, values, v, seen, correction, column, values);
  }

  template <int R, int C>
  static void add_columns(const AttendCall& call, const uint8_t* values, int v, int seen,
                          const float* correction, int column, const uint8_t* prefetched) {
    const int width = (call.value_dim + 15) / 16 * 16;
    F sum[R][C];
    GANTRY_UNROLL
    for (int r = 0; r < R; ++r) {
      const float* sums = call.sums + (v + r) * width + column;
      GANTRY_UNROLL
      for (int c = 0; c < C; ++c) sum[r][c] = V::mul(V::load(sums + c * kLanes), V::set1(correction[v + r]));
    }
    const float* weights = call.scores + v * kTile;
    const uint8_t* p = values + column * kCacheBytes;
    for (int t = 0; t < seen; ++t) {
      F value[C];
      GANTRY_UNROLL
      for (int c = 0; c < C; ++c) value[c] = Cache::template load<V>(p + c * kLanes * kCacheBytes);
      p += call.value_stride * kCacheBytes;
      GANTRY_UNROLL
      for (int line = 0; line < kTile * kCacheBytes; line += 64) __builtin_prefetch(prefetched + line);
      prefetched += kTile * kCacheBytes;
      GANTRY_UNROLL
      for (int r = 0; r < R; ++r) {
        const F weight = V::set1(weights[r * kTile + t]);
        GANTRY_UNROLL
        for (int c = 0; c < C; ++c) sum[r][c] = V::fma(weight, value[c], sum[r][c]);
      }
    }
    GANTRY_UNROLL
    for (int r = 0; r < R; ++r) {
      float* sums = call.sums + (v + r) * width + column;
      GANTRY_UNROLL
      for (int c = 0; c < C; ++c) V::store(sums + c * kLanes, sum[r][c]);
    }
  }
};

template <class V>
void merge_states(const float* next_sums, float next_max, float next_weight, int64_t n, float* sums,
                  float* max, float* weight) {
  const float new_max = next_max > *max ? next_max : *max;
  const typename V::F old_factor = exp<V>(V::set1(*max - new_max));
  const typename V::F next_factor = exp<V>(V::set1(next_max - new_max));
  for (int64_t i = 0; i < n; i += V::kLanes) {
    V::store(sums + i, V::fma(V::load(next_sums + i), next_factor, V::mul(V::load(sums + i), old_factor)));
  }
  alignas(64) float factors[2][V::kLanes];
  V::store(factors[0], old_factor);
  V::store(factors[1], next_factor);
  *weight = *weight * factors[0][0] + next_weight * factors[1][0];
  *max = new_max;
}

template <class V>
void fill_attention(MicroKernels& kernels) {
  kernels.attend_f32 = Attention<V, CacheF32>::run;
  kernels.attend_f16 = Attention<V, CacheF16>::run;
  kernels.attend_bf16 = Attention<V, CacheBF16>::run;
  kernels.merge_states = merge_states<V>;
}

}  // namespace gantry::cpu

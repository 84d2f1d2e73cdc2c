// Norm, activation functions, rotary embedding, quantisation of activations: over vectors of lanes.
#pragma once

#include <cstdint>

#include "kernels/cpu/micro_kernels.h"
#include "kernels/cpu/tile/gemm.h"

namespace gantry::cpu {

// e^x; exactly 0 below -87.3, so that a masked -inf weighs nothing. Cody-Waite reduction to |r| <= ln 2 / 2,
// where the Taylor polynomial of degree 6 errs by 2e-7.
template <class V>
[[gnu::always_inline]] inline typename V::F exp(typename V::F x) {
  using F = typename V::F;
  const F clamped = V::sub(V::zero(), V::max(V::sub(V::zero(), V::max(x, V::set1(-87.3f))), V::set1(-88.3f)));
  const typename V::I n = V::round_i32(V::mul(clamped, V::set1(1.44269504f)));
  const F nf = V::to_f32(n);
  F r = V::fma(nf, V::set1(-0.693359375f), clamped);
  r = V::fma(nf, V::set1(2.12194440e-4f), r);
  F p = V::fma(r, V::set1(1.38888889e-3f), V::set1(8.33333333e-3f));
  p = V::fma(p, r, V::set1(4.16666667e-2f));
  p = V::fma(p, r, V::set1(1.66666667e-1f));
  p = V::fma(p, r, V::set1(0.5f));
  p = V::fma(p, r, V::set1(1.0f));
  p = V::fma(p, r, V::set1(1.0f));
  return V::below(x, -87.3f, V::zero(), V::mul(p, V::pow2(n)));
}

template <class V>
void rms_norm(const float* x, const float* weight, float eps, int64_t n, float* y) {
  using F = typename V::F;
  constexpr int L = V::kLanes;
  F squares[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
  int64_t i = 0;
  for (; i + 4 * L <= n; i += 4 * L) {
    GANTRY_UNROLL
    for (int j = 0; j < 4; ++j) {
      const F v = V::load(x + i + j * L);
      squares[j] = V::fma(v, v, squares[j]);
    }
  }
  for (; i < n; i += L) {
    const F v = V::load_first(x + i, static_cast<int>(n - i < L ? n - i : L));
    squares[0] = V::fma(v, v, squares[0]);
  }
  const float mean =
      V::sum(V::add(V::add(squares[0], squares[1]), V::add(squares[2], squares[3]))) / static_cast<float>(n);
  const F scale = V::set1(1.0f / __builtin_sqrtf(mean + eps));
  for (i = 0; i + L <= n; i += L) {
    V::store(y + i, V::mul(V::mul(V::load(x + i), scale), V::load(weight + i)));
  }
  if (i < n) {
    const int rest = static_cast<int>(n - i);
    V::store_first(y + i, V::mul(V::mul(V::load_first(x + i, rest), scale), V::load_first(weight + i, rest)),
                   rest);
  }
}

template <class V>
[[gnu::always_inline]] inline typename V::F silu_times(typename V::F gate, typename V::F up) {
  const typename V::F e = exp<V>(V::sub(V::zero(), gate));
  return V::mul(V::div(gate, V::add(V::set1(1.0f), e)), up);
}

template <class V>
void silu_mul(const float* gate, const float* up, int64_t n, float* y) {
  constexpr int L = V::kLanes;
  int64_t i = 0;
  for (; i + L <= n; i += L) V::store(y + i, silu_times<V>(V::load(gate + i), V::load(up + i)));
  if (i < n) {
    const int rest = static_cast<int>(n - i);
    V::store_first(y + i, silu_times<V>(V::load_first(gate + i, rest), V::load_first(up + i, rest)), rest);
  }
}

template <class V>
void rope(const float* cos, const float* sin, int32_t pairs, bool interleaved, float* x) {
  constexpr int L = V::kLanes;
  if (interleaved) {
    for (int32_t i = 0; i < pairs; ++i) {
      const float a = x[2 * i], b = x[2 * i + 1];
      x[2 * i] = a * cos[i] - b * sin[i];
      x[2 * i + 1] = b * cos[i] + a * sin[i];
    }
    return;
  }
  for (int32_t i = 0; i < pairs; i += L) {
    const int count = pairs - i < L ? pairs - i : L;
    const typename V::F a = V::load_first(x + i, count), b = V::load_first(x + pairs + i, count);
    const typename V::F c = V::load_first(cos + i, count), s = V::load_first(sin + i, count);
    V::store_first(x + i, V::sub(V::mul(a, c), V::mul(b, s)), count);
    V::store_first(x + pairs + i, V::add(V::mul(b, c), V::mul(a, s)), count);
  }
}

// Blocks below it are zero: 127 / amax would come near the end of f32's range.
inline constexpr float kQuantizedMin = 1e-35f;

template <class V>
void quantize_int8(const float* x, int64_t n, Int8Block* out) {
  using F = typename V::F;
  using I = typename V::I;
  constexpr int L = V::kLanes;
  for (int64_t b = 0; b < n / 32; ++b) {
    F v[32 / L], largest = V::zero();
    GANTRY_UNROLL
    for (int j = 0; j < 32 / L; ++j) {
      v[j] = V::load(x + b * 32 + j * L);
      largest = V::max(V::abs(v[j]), largest);
    }
    const float amax = V::max_lane(largest);
    const F inverse = V::set1(amax > kQuantizedMin ? 127.0f / amax : 0.0f);
    int32_t half[2] = {0, 0};
    for (int h = 0; h < 2; ++h) {
      I sum = V::zero_i32();
      for (int j = h * 16 / L; j < (h + 1) * 16 / L; ++j) {
        const I q = V::round_i32(V::mul(v[j], inverse));
        V::store_i8(out[b].q + j * L, q);
        sum = V::add_i32(sum, q);
      }
      half[h] = V::sum_i32(sum);
    }
    out[b].scale = amax / 127.0f;
    out[b].scaled_sum = out[b].scale * static_cast<float>(half[0] + half[1]);
    out[b].neg_sum = -(half[0] + half[1]);
    out[b].neg_half[0] = static_cast<int16_t>(-half[0]);
    out[b].neg_half[1] = static_cast<int16_t>(-half[1]);
  }
}

template <class V>
void round_bf16(const float* x, int64_t n, uint16_t* out) {
  constexpr int L = V::kLanes;
  int64_t i = 0;
  for (; i + L <= n; i += L) V::store_bf16(out + i, V::load(x + i));
  if (i < n) {
    uint16_t rest[L];
    V::store_bf16(rest, V::load_first(x + i, static_cast<int>(n - i)));
    __builtin_memcpy(out + i, rest, static_cast<size_t>(n - i) * 2);
  }
}

template <class V>
void round_f16(const float* x, int64_t n, uint16_t* out) {
  constexpr int L = V::kLanes;
  int64_t i = 0;
  for (; i + L <= n; i += L) V::store_f16(out + i, V::load(x + i));
  if (i < n) {
    uint16_t rest[L];
    V::store_f16(rest, V::load_first(x + i, static_cast<int>(n - i)));
    __builtin_memcpy(out + i, rest, static_cast<size_t>(n - i) * 2);
  }
}

template <class V>
void divide(const float* x, float divisor, int64_t n, float* y) {
  constexpr int L = V::kLanes;
  const typename V::F d = V::set1(divisor);
  int64_t i = 0;
  for (; i + L <= n; i += L) V::store(y + i, V::div(V::load(x + i), d));
  if (i < n) {
    const int rest = static_cast<int>(n - i);
    V::store_first(y + i, V::div(V::load_first(x + i, rest), d), rest);
  }
}

template <class V>
void fill_elementwise(MicroKernels& kernels) {
  kernels.rms_norm = rms_norm<V>;
  kernels.silu_mul = silu_mul<V>;
  kernels.rope = rope<V>;
  kernels.round_bf16 = round_bf16<V>;
  kernels.round_f16 = round_f16<V>;
  kernels.divide = divide<V>;
}

}  // namespace gantry::cpu

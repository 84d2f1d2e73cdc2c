#include "bench/cuda/host_math.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <thread>

#include "kernels/ops/ops.h"
#include "tensor/convert.h"

namespace gantry::bench {

float e4m3_to_f32(uint8_t code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                        : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  if ((code & 0x7f) == 0x7f) return NAN;
  return code & 0x80 ? -magnitude : magnitude;
}

uint8_t f32_to_e4m3(float value) {
  const uint8_t sign = std::signbit(value) ? 0x80 : 0;
  const float magnitude = std::fabs(value);
  if (magnitude >= 448.0f) return sign | 0x7e;
  int exponent = magnitude < 0x1p-6f ? -6 : std::ilogb(magnitude);
  const float scaled = std::ldexp(magnitude, 3 - exponent);  // in units of the last place: 8 .. 16, or below
  int units = static_cast<int>(std::nearbyint(scaled));
  if (units == 16) {
    units = 8;
    ++exponent;
  }
  const int biased = units < 8 ? 0 : exponent + 7;
  const int code = units < 8 ? units : biased << 3 | (units - 8);
  return static_cast<uint8_t>(sign | std::min(code, 0x7e));
}

Quantized quantize_rows(const std::vector<float>& x, int rows, int width, int stride) {
  Quantized q;
  q.stride = stride;
  q.codes.resize(x.size());
  q.values.resize(x.size());
  q.scales.assign(static_cast<size_t>(width / 128 * stride), NAN);
  for (int r = 0; r < rows; ++r) {
    for (int g = 0; g < width / 128; ++g) {
      const size_t first = static_cast<size_t>(r) * static_cast<size_t>(width) + static_cast<size_t>(g * 128);
      float most = 1e-30f;
      for (size_t i = first; i < first + 128; ++i) most = std::max(most, std::fabs(x[i]));
      const float scale = most / 448.0f, inverse = 1.0f / scale;
      q.scales[static_cast<size_t>(g * stride + r)] = scale;
      for (size_t i = first; i < first + 128; ++i) {
        q.codes[i] = f32_to_e4m3(x[i] * inverse);
        q.values[i] = e4m3_to_f32(q.codes[i]) * scale;
      }
    }
  }
  return q;
}

std::vector<float> dequantize_blocks(const uint8_t* codes, const float* scales, int rows, int cols) {
  float table[256];
  for (int c = 0; c < 256; ++c) table[c] = e4m3_to_f32(static_cast<uint8_t>(c));
  const auto width = static_cast<size_t>(cols);
  std::vector<float> w(static_cast<size_t>(rows) * width);
  for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
    for (size_t c = 0; c < width; ++c) {
      w[r * width + c] = table[codes[r * width + c]] * scales[r / 128 * (width / 128) + c / 128];
    }
  }
  return w;
}

std::vector<float> reference_linear(const std::vector<float>& x, const std::vector<float>& w, int m, int n,
                                    int k) {
  static ThreadPool pool(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  const Backend* backend = cpu_backend("reference").value();
  const size_t bytes =
      backend->scratch_bytes({.rows_max = m, .width_max = std::max(n, k), .threads = pool.size()});
  std::vector<std::byte> scratch(bytes + 64);
  const size_t offset = (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64;
  const TensorView part{w.data(), DType::kF32, Shape{n, k}};
  const PackedWeight weight = backend->prepare({.parts = {&part, 1}}, {}).value();
  std::vector<float> out(static_cast<size_t>(m) * static_cast<size_t>(n));
  const OpContext context{backend, &pool, std::span(scratch).subspan(offset, bytes)};
  ops::norm_linear(context, {.x = x.data(), .rows = m, .weight = &weight, .out = out.data()});
  return out;
}

std::vector<float> normals(size_t count, float sigma, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> normal(0.0f, sigma);
  std::vector<float> v(count);
  for (float& x : v) x = normal(engine);
  return v;
}

std::vector<float> from_bf16(const std::vector<uint16_t>& bits) {
  std::vector<float> v(bits.size());
  for (size_t i = 0; i < bits.size(); ++i) v[i] = bf16_to_f32(bits[i]);
  return v;
}

}  // namespace gantry::bench

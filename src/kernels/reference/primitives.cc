#include "kernels/reference/primitives.h"

#include <cmath>
#include <cstring>

#include "kernels/ops/round_activations.h"
#include "tensor/convert.h"

namespace gantry::reference {
namespace {

constexpr int kLanes = 16;
constexpr int64_t kRowGrain = 8;

}  // namespace

float dot(const float* a, const float* b, int64_t n) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) lanes[l] += a[i + l] * b[i + l];
  }
  for (int l = 0; i < n; ++i, ++l) lanes[l] += a[i] * b[i];
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  }
  return lanes[0];
}

void rms_norm(const float* x, const Norm& norm, int64_t width, float* y) {
  const float mean = dot(x, x, width) / static_cast<float>(width);
  const float scale = 1.0f / std::sqrt(mean + norm.eps);
  for (int64_t i = 0; i < width; ++i) y[i] = x[i] * scale * norm.weight[i];
}

void softmax(float* x, int64_t n) {
  float max = x[0];
  for (int64_t i = 1; i < n; ++i) max = x[i] > max ? x[i] : max;
  float sum = 0.0f;
  for (int64_t i = 0; i < n; ++i) {
    x[i] = std::exp(x[i] - max);
    sum += x[i];
  }
  for (int64_t i = 0; i < n; ++i) x[i] /= sum;
}

float silu(float x) { return x / (1.0f + std::exp(-x)); }

void rope(const RopeRows& rope, int64_t row, float* x) {
  const float* cos = rope.cos + row * rope.pairs;
  const float* sin = rope.sin + row * rope.pairs;
  for (int32_t i = 0; i < rope.pairs; ++i) {
    const int32_t first = rope.interleaved ? 2 * i : i;
    const int32_t second = rope.interleaved ? 2 * i + 1 : i + rope.pairs;
    const float a = x[first], b = x[second];
    x[first] = a * cos[i] - b * sin[i];
    x[second] = b * cos[i] + a * sin[i];
  }
}

namespace {

// Row n of entry `batch` of a part, dequantised.
void weight_row(const PackedWeight::Part& part, int64_t batch, int64_t n, std::span<float> w) {
  const auto cols = static_cast<int64_t>(w.size());
  const TensorView view{static_cast<const uint8_t*>(part.data) + batch * part.batch_stride, part.dtype,
                        Shape{part.rows, cols}};
  dequantize(view, n * cols, w);
  if (part.scales == nullptr) return;
  const float* scales = part.scales + batch * part.scale_batch_stride + n / kScaleBlock * scale_blocks(cols);
  for (int64_t k = 0; k < cols; ++k) w[static_cast<size_t>(k)] *= scales[k / kScaleBlock];
}

}  // namespace

void linear(ThreadPool& pool, const Rows& x, const PackedWeight& weight, int64_t batch, float* row_scratch,
            const RowsOut& out) {
  const auto cols = static_cast<size_t>(weight.cols);
  int64_t first_out = 0;
  for (int p = 0; p < weight.part_count; ++p) {
    const PackedWeight::Part& part = weight.parts[static_cast<size_t>(p)];
    const bool rounds = rounds_activations(weight.compute, part.dtype);
    pool.parallel_for(part.rows, kRowGrain, [&](int64_t begin, int64_t end, int thread) {
      const std::span<float> w(row_scratch + 2 * thread * weight.cols, cols);
      const std::span<float> rounded(w.data() + cols, cols);
      const auto put = [&](int64_t r, int64_t n, const float* row) {
        const float bias = part.bias != nullptr ? part.bias[n] : 0.0f;
        const float value = dot(row, w.data(), weight.cols) + bias;
        float& target = out.data[r * out.stride + first_out + n];
        target = out.accumulate ? target + value : value;
      };
      if (!rounds) {
        for (int64_t n = begin; n < end; ++n) {
          weight_row(part, batch, n, w);
          for (int64_t r = 0; r < x.count; ++r) put(r, n, x.data + r * x.stride);
        }
        return;
      }
      for (int64_t r = 0; r < x.count; ++r) {
        round_activations({x.data + r * x.stride, cols}, weight.compute, rounded);
        for (int64_t n = begin; n < end; ++n) {
          weight_row(part, batch, n, w);
          put(r, n, rounded.data());
        }
      }
    });
    first_out += part.rows;
  }
}

void norm_rows(ThreadPool& pool, const Rows& x, const Norm& norm, int64_t width, float* out) {
  pool.parallel_for(x.count, kRowGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const float* row = x.data + r * x.stride;
      if (norm.weight != nullptr) {
        rms_norm(row, norm, width, out + r * width);
      } else if (row != out + r * width) {
        std::memcpy(out + r * width, row, static_cast<size_t>(width) * sizeof(float));
      }
    }
  });
}

void swiglu_rows(ThreadPool& pool, float* gate_up, int64_t rows, int64_t width) {
  pool.parallel_for(rows, kRowGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      float* row = gate_up + r * 2 * width;
      for (int64_t i = 0; i < width; ++i) row[i] = silu(row[i]) * row[width + i];
    }
  });
}

}  // namespace gantry::reference

// The small functions that the reference's ops are made of. Sums run in one fixed order (dot), so a row's
// result never depends on its neighbours or on threads.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"
#include "kernels/ops/args.h"
#include "kernels/ops/packed_weight.h"

namespace gantry::reference {

// sum a[i] b[i]: lane l of 16 adds the products of i = l, l + 16, ... in ascending order; then lane l adds
// lane l + 8, then l + 4, l + 2, l + 1. No fused multiply-add.
float dot(const float* a, const float* b, int64_t n);

// y = x * rsqrt(mean(x^2) + eps) * weight; y may be x.
void rms_norm(const float* x, const Norm& norm, int64_t width, float* y);

// x -> exp(x - max) / sum, in place; the sum in ascending order.
void softmax(float* x, int64_t n);

float silu(float x);

// Rotates the first 2 * pairs values of `x` in place, by row `row` of the tables.
void rope(const RopeRows& rope, int64_t row, float* x);

// Rows of f32, `stride` floats apart.
struct Rows {
  const float* data = nullptr;
  int64_t count = 0;
  int64_t stride = 0;
};
struct RowsOut {
  float* data = nullptr;
  int64_t stride = 0;
  bool accumulate = false;
};

// out[r, n] (+)= dot(x[r], W[n]) + bias[n] for entry `batch` of the weight. row_scratch: linear_scratch()
// floats.
void linear(ThreadPool& pool, const Rows& x, const PackedWeight& weight, int64_t batch, float* row_scratch,
            const RowsOut& out);

inline int64_t linear_scratch(const ThreadPool& pool, int64_t cols) { return 2 * pool.size() * cols; }

// Each row normed into `out` [count, width] (contiguous), or copied where there is no norm.
void norm_rows(ThreadPool& pool, const Rows& x, const Norm& norm, int64_t width, float* out);

// act[i] = silu(act[i]) * act[width + i] for each row: SwiGLU over stacked gate and up.
void swiglu_rows(ThreadPool& pool, float* gate_up, int64_t rows, int64_t width);

}  // namespace gantry::reference

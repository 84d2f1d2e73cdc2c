// The inner loops that differ by instruction set: one table for each. The composite ops (linear.cc,
// attend.cc, mlp.cc ...) exist once and call these. Every kernel fixes its order of additions by its
// arguments' shapes alone, never by the number of rows in the call.
#pragma once

#include <cstdint>

#include "base/limits.h"
#include "kernels/cpu/activation.h"
#include "kernels/ops/backend.h"
#include "tensor/dtype.h"

namespace gantry::cpu {

// out[r, n] (+)= row_scale[r] * (x[r] . w[n] + bias[n]) for `rows` rows and `panel_count` panels of one part.
struct GemmCall {
  const void* x = nullptr;          // activation rows of the kernel's kind, 4-byte aligned
  int64_t x_stride = 0;             // bytes
  const int32_t* x_rows = nullptr;  // [rows] which row of x; null: 0, 1, 2 ...
  int64_t rows = 0;
  const uint8_t* panels = nullptr;  // 64-byte aligned
  int64_t panel_stride = 0;         // bytes
  int64_t panel_count = 0;
  int64_t cols = 0;
  float* out = nullptr;
  int64_t out_stride = 0;             // floats
  const int32_t* out_rows = nullptr;  // [rows] which row of out; null: 0, 1, 2 ...
  int64_t out_columns = 0;            // valid outputs of these panels
  const float* bias = nullptr;        // [panel_count * 16] or null
  const float* row_scale = nullptr;   // [rows] or null
  bool accumulate = false;
};
using GemmKernel = void (*)(const GemmCall&);

// Attention of some query vectors over consecutive tiles of one KV head. A tile is one KV block of
// limits::kKvBlockTokens positions; softmax runs online, tile by tile, from a fresh state.
struct AttendCall {
  const float* const* q = nullptr;   // [vectors], each [key_dim]
  const int32_t* visible = nullptr;  // [vectors] positions seen from the sequence's start, ascending, all
                                     // beyond the first tile's start
  int vectors = 0;
  int first_tile = 0;
  int tiles = 0;
  const void* const* keys = nullptr;    // [tiles] [key_dim][64], or with keys_by_row [64][key_stride]
  const void* const* values = nullptr;  // [tiles] [64][value_stride]
  bool keys_by_row = false;
  int key_dim = 0;
  int key_stride = 0;  // elements, a multiple of 16; the row's padding is zero
  int value_dim = 0;
  int value_stride = 0;  // elements, at least value_dim rounded up to 16
  float scale = 0;
  float* scores = nullptr;  // workspace [vectors][64]
  // Out: the softmax state of each vector, value_dim rounded up to 16 floats each in `sums`.
  float* max = nullptr;
  float* weight = nullptr;  // sum of exp(score - max)
  float* sums = nullptr;    // sum of exp(score - max) * value
};
inline constexpr int kVectorsMax = 24;  // of one AttendCall
using AttendKernel = void (*)(const AttendCall&);

struct MicroKernels {
  // By DType; null where a backend has none. `gemm` computes with f32 activations, `gemm_fast` with
  // activations of kind fast_kind.
  GemmKernel gemm[kDTypes] = {};
  GemmKernel gemm_fast[kDTypes] = {};
  ActivationKind fast_kind[kDTypes] = {};

  // y = x * rsqrt(mean(x^2) + eps) * weight; y may be x.
  void (*rms_norm)(const float* x, const float* weight, float eps, int64_t n, float* y) = nullptr;
  void (*quantize_int8)(const float* x, int64_t n, Int8Block* out) = nullptr;  // n a multiple of 32
  void (*round_bf16)(const float* x, int64_t n, uint16_t* out) = nullptr;
  void (*round_f16)(const float* x, int64_t n, uint16_t* out) = nullptr;
  // y = silu(gate) * up; y may be gate.
  void (*silu_mul)(const float* gate, const float* up, int64_t n, float* y) = nullptr;
  // Rotates x in place: pairs (i, i + pairs), or (2 i, 2 i + 1) if interleaved.
  void (*rope)(const float* cos, const float* sin, int32_t pairs, bool interleaved, float* x) = nullptr;

  AttendKernel attend_f32 = nullptr;
  AttendKernel attend_f16 = nullptr;
  AttendKernel attend_bf16 = nullptr;
  // Folds the state of the next run of tiles into `sums` [n], `max` and `weight`.
  void (*merge_states)(const float* next_sums, float next_max, float next_weight, int64_t n, float* sums,
                       float* max, float* weight) = nullptr;
  void (*divide)(const float* x, float divisor, int64_t n, float* y) = nullptr;
};

struct CpuBackend : Backend {
  const MicroKernels* micro = nullptr;
};

// The micro-kernels of the context's backend, which is one of this folder's.
inline const MicroKernels& micro_of(const OpContext& context) {
  return *static_cast<const CpuBackend*>(context.backend)->micro;
}

}  // namespace gantry::cpu

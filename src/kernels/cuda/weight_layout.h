// How a weight lies in the GPU's memory: f32, or bf16 with rows of whole k-blocks of the matrix units. Pure.
#pragma once

#include <cstdint>

#include "kernels/ops/packed_weight.h"

namespace gantry::cuda {

// k-blocks of the bf16 GEMM, and rows of W that one of its boxes reads.
inline constexpr int64_t kBf16ColsAlign = 64, kBf16RowsAlign = 64;
inline constexpr int64_t kStorageAlign = 256;

// kF32 for f32 arithmetic, else kBF16: blocks, F16 and scaled FP8 are rounded to it.
DType device_dtype(DType dtype, Compute compute);

// Elements from one row to the next, and bytes of one entry, padding included.
int64_t row_stride(DType device_dtype, int64_t cols);
int64_t entry_bytes(DType device_dtype, int64_t rows, int64_t cols);
// Whether the parts of a weight, all of one type on the device, are stored as one matrix: one product computes all.
bool stacked(const PackedWeight& file, Compute compute);
// Bytes of the part in every entry of a batch.
int64_t part_bytes(DType device_dtype, int64_t rows, int64_t cols, int64_t batch);

inline int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

}  // namespace gantry::cuda

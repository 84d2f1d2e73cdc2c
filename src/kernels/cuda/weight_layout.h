// How a weight lies in the GPU's memory: f32; bf16 with rows of whole k-blocks of the matrix units; wide FP8 as the
// file has it, codes and then scales, for products with FP8 activations. Pure.
#pragma once

#include <cstdint>

#include "kernels/ops/packed_weight.h"

namespace gantry::cuda {

// k-blocks of the bf16 GEMM, and rows of W that one of its boxes reads.
inline constexpr int64_t kBf16ColsAlign = 64, kBf16RowsAlign = 64;
inline constexpr int64_t kStorageAlign = 256;

// FP8 matrices of at least this many elements stay FP8: rounding activations to 3 bits of mantissa pays where reading
// the weights takes the time.
inline constexpr int64_t kFp8ElementsMin = int64_t{1} << 20;
// k-blocks of the FP8 GEMM's widest K (sm90/decode_gemm.h).
inline constexpr int64_t kFp8ColsMax = 144 * kScaleBlock;

// Entries of a batch that the grouped FP8 GEMMs take (sm90/routing.h): 256 routed experts and a shared one.
inline constexpr int64_t kFp8BatchMax = 257;

// Of a part of the file's weight. kF32 for f32 arithmetic; kF8E4M3 for wide scaled FP8; else kBF16: blocks, F16 and
// narrow FP8 are rounded to it.
DType device_dtype(const PackedWeight& file, int part, Compute compute);

// Elements from one row to the next, and bytes of one entry, padding included.
int64_t row_stride(DType device_dtype, int64_t cols);
int64_t entry_bytes(DType device_dtype, int64_t rows, int64_t cols);
// Whether the parts of a weight, all of one type on the device, are stored as one matrix: one product computes all.
bool stacked(const PackedWeight& file, Compute compute);
// Floats of one FP8 entry's scales, which follow the codes of all entries.
int64_t part_scales(int64_t rows, int64_t cols);
// Bytes of the part in every entry of a batch, scales included.
int64_t part_bytes(DType device_dtype, int64_t rows, int64_t cols, int64_t batch);

inline int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

}  // namespace gantry::cuda

#include "kernels/cuda/weight_layout.h"

namespace gantry::cuda {

DType device_dtype(const PackedWeight& file, int index, Compute compute) {
  const PackedWeight::Part& part = file.parts[static_cast<size_t>(index)];
  if (part.dtype == DType::kF32 || compute == Compute::kF32) return DType::kF32;
  // Experts' gate, up and down pass or fail together: the rows of one are the columns of another.
  const int64_t rows_align = file.batch > 1 ? kScaleBlock : 64;
  const bool wide = part.rows * file.cols >= kFp8ElementsMin && part.rows % rows_align == 0 &&
                    file.cols % kScaleBlock == 0 && file.cols <= kFp8ColsMax && file.batch <= kFp8BatchMax &&
                    part.bias == nullptr;
  return part.dtype == DType::kF8E4M3 && wide ? DType::kF8E4M3 : DType::kBF16;
}

int64_t row_stride(DType device_dtype, int64_t cols) {
  return device_dtype == DType::kBF16 ? round_up(cols, kBf16ColsAlign) : cols;
}

int64_t entry_bytes(DType device_dtype, int64_t rows, int64_t cols) {
  const int64_t stored = device_dtype == DType::kBF16 ? round_up(rows, kBf16RowsAlign) : rows;
  return stored * row_stride(device_dtype, cols) * dtype_info(device_dtype).block_bytes;
}

bool stacked(const PackedWeight& file, Compute compute) {
  for (int i = 1; i < file.part_count; ++i) {
    const DType dtype = device_dtype(file, 0, compute);
    if (device_dtype(file, i, compute) != dtype) return false;
    // Blocks of scales go on across parts of whole blocks alone.
    if (dtype == DType::kF8E4M3 && file.parts[static_cast<size_t>(i - 1)].rows % kScaleBlock != 0)
      return false;
  }
  return true;
}

int64_t part_scales(int64_t rows, int64_t cols) { return scale_blocks(rows) * scale_blocks(cols); }

int64_t part_bytes(DType device_dtype, int64_t rows, int64_t cols, int64_t batch) {
  if (device_dtype == DType::kF8E4M3) {
    return round_up(batch * rows * cols, kStorageAlign) +
           round_up(batch * part_scales(rows, cols) * static_cast<int64_t>(sizeof(float)), kStorageAlign);
  }
  return round_up(batch * entry_bytes(device_dtype, rows, cols), kStorageAlign);
}

}  // namespace gantry::cuda

#include "kernels/cuda/weight_layout.h"

namespace gantry::cuda {

DType device_dtype(DType dtype, Compute compute) {
  return dtype == DType::kF32 || compute == Compute::kF32 ? DType::kF32 : DType::kBF16;
}

int64_t row_stride(DType device_dtype, int64_t cols) {
  return device_dtype == DType::kF32 ? cols : round_up(cols, kBf16ColsAlign);
}

int64_t entry_bytes(DType device_dtype, int64_t rows, int64_t cols) {
  const int64_t stored = device_dtype == DType::kF32 ? rows : round_up(rows, kBf16RowsAlign);
  return stored * row_stride(device_dtype, cols) * dtype_info(device_dtype).block_bytes;
}

bool stacked(const PackedWeight& file, Compute compute) {
  for (int i = 1; i < file.part_count; ++i) {
    if (device_dtype(file.parts[static_cast<size_t>(i)].dtype, compute) !=
        device_dtype(file.parts[0].dtype, compute)) {
      return false;
    }
  }
  return true;
}

int64_t part_bytes(DType device_dtype, int64_t rows, int64_t cols, int64_t batch) {
  return round_up(batch * entry_bytes(device_dtype, rows, cols), kStorageAlign);
}

}  // namespace gantry::cuda

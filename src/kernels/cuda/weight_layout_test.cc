#include "kernels/cuda/weight_layout.h"

#include <gtest/gtest.h>

namespace gantry::cuda {
namespace {

TEST(CudaWeightLayout, F32ArithmeticKeepsF32) {
  EXPECT_EQ(device_dtype(DType::kF32, Compute::kAuto), DType::kF32);
  EXPECT_EQ(device_dtype(DType::kQ4_K, Compute::kF32), DType::kF32);
  EXPECT_EQ(device_dtype(DType::kQ4_K, Compute::kAuto), DType::kBF16);
  EXPECT_EQ(device_dtype(DType::kF16, Compute::kAuto), DType::kBF16);
}

TEST(CudaWeightLayout, RowsOfBf16AreWholeBlocks) {
  for (const int64_t cols : {1, 63, 64, 65, 576, 7168}) {
    EXPECT_EQ(row_stride(DType::kBF16, cols) % kBf16ColsAlign, 0);
    EXPECT_GE(row_stride(DType::kBF16, cols), cols);
    EXPECT_LT(row_stride(DType::kBF16, cols), cols + kBf16ColsAlign);
    EXPECT_EQ(row_stride(DType::kF32, cols), cols);
  }
}

TEST(CudaWeightLayout, AnEntryHoldsWholeBoxes) {
  EXPECT_EQ(entry_bytes(DType::kBF16, 7, 65), 64 * 128 * 2);
  EXPECT_EQ(entry_bytes(DType::kBF16, 64, 64), 64 * 64 * 2);
  EXPECT_EQ(entry_bytes(DType::kF32, 7, 65), 7 * 65 * 4);
}

TEST(CudaWeightLayout, PartsOfOneTypeAreStacked) {
  PackedWeight file;
  file.part_count = 2;
  file.parts[0].dtype = DType::kQ4_K;
  file.parts[1].dtype = DType::kQ6_K;
  EXPECT_TRUE(stacked(file, Compute::kAuto));
  file.parts[1].dtype = DType::kF32;
  EXPECT_FALSE(stacked(file, Compute::kAuto));
  EXPECT_TRUE(stacked(file, Compute::kF32));
}

TEST(CudaWeightLayout, PartsStartAligned) {
  EXPECT_EQ(part_bytes(DType::kF32, 3, 5, 1), kStorageAlign);
  EXPECT_EQ(part_bytes(DType::kF32, 3, 5, 9), round_up(9 * 60, kStorageAlign));
  EXPECT_EQ(part_bytes(DType::kBF16, 64, 64, 3) % kStorageAlign, 0);
}

}  // namespace
}  // namespace gantry::cuda

#include "kernels/cuda/weight_layout.h"

#include <gtest/gtest.h>

namespace gantry::cuda {
namespace {

DType dtype_of(DType dtype, Compute compute, int64_t rows = 512, int64_t cols = 512, int64_t batch = 1) {
  PackedWeight file;
  file.cols = cols;
  file.batch = batch;
  file.part_count = 1;
  file.parts[0].dtype = dtype;
  file.parts[0].rows = rows;
  return device_dtype(file, 0, compute);
}

TEST(CudaWeightLayout, F32ArithmeticKeepsF32) {
  EXPECT_EQ(dtype_of(DType::kF32, Compute::kAuto), DType::kF32);
  EXPECT_EQ(dtype_of(DType::kQ4_K, Compute::kF32), DType::kF32);
  EXPECT_EQ(dtype_of(DType::kQ4_K, Compute::kAuto), DType::kBF16);
  EXPECT_EQ(dtype_of(DType::kF16, Compute::kAuto), DType::kBF16);
}

TEST(CudaWeightLayout, WideFp8StaysFp8) {
  EXPECT_EQ(dtype_of(DType::kF8E4M3, Compute::kAuto, 2048, 7168), DType::kF8E4M3);
  EXPECT_EQ(dtype_of(DType::kF8E4M3, Compute::kAuto, 576, 7168), DType::kF8E4M3);
  EXPECT_EQ(dtype_of(DType::kF8E4M3, Compute::kF32, 2048, 7168), DType::kF32);
  EXPECT_EQ(dtype_of(DType::kF8E4M3, Compute::kAuto, 256, 256), DType::kBF16) << "r1-tiny's";
  EXPECT_EQ(dtype_of(DType::kF8E4M3, Compute::kAuto, 2048, 7168 + 64), DType::kBF16) << "no whole blocks";
  EXPECT_EQ(dtype_of(DType::kF8E4M3, Compute::kAuto, 2050, 7168), DType::kBF16);
  EXPECT_EQ(dtype_of(DType::kF8E4M3, Compute::kAuto, 2048, 7168, kFp8BatchMax), DType::kF8E4M3);
  EXPECT_EQ(dtype_of(DType::kF8E4M3, Compute::kAuto, 2048, 7168, kFp8BatchMax + 1), DType::kBF16);
  EXPECT_EQ(dtype_of(DType::kF8E4M3, Compute::kAuto, 1472, 7168, 64), DType::kBF16)
      << "down's columns would not fit";
  EXPECT_EQ(dtype_of(DType::kF8E4M3, Compute::kAuto, 7168, 1472, 64), DType::kBF16);
  EXPECT_EQ(dtype_of(DType::kF8E4M3, Compute::kAuto, 2048, kFp8ColsMax + 128), DType::kBF16);
}

TEST(CudaWeightLayout, Fp8PartsStackOnWholeBlocks) {
  PackedWeight file;
  file.cols = 7168;
  file.part_count = 2;
  for (PackedWeight::Part& part : file.parts) part.dtype = DType::kF8E4M3;
  file.parts[0].rows = 1536;
  file.parts[1].rows = 576;
  EXPECT_TRUE(stacked(file, Compute::kAuto));
  std::swap(file.parts[0].rows, file.parts[1].rows);
  EXPECT_FALSE(stacked(file, Compute::kAuto));
  EXPECT_EQ(part_bytes(DType::kF8E4M3, 256, 512, 3), 3 * 256 * 512 + kStorageAlign);
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
  file.cols = 256;
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

#include "kernels/cpu/weight_layout.h"

#include "base/check.h"
#include "kernels/ops/packed_weight.h"

namespace gantry::cpu {

BlockLayout block_layout(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return {256, 32, 0};
    case DType::kQ4_1:
      return {256, 64, 0};
    case DType::kQ5_0:
      return {320, 32, 0};
    case DType::kQ5_1:
      return {320, 64, 0};
    case DType::kQ8_0:
      return {512, 32, 0};
    case DType::kQ4_K:
      return {256, 32, 64};
    case DType::kQ5_K:
      return {320, 32, 64};
    case DType::kQ6_K:
      return {384, 32, 32};
    default:
      GANTRY_CHECK(false) << "not a block format: " << to_string(dtype);
      return {};
  }
}

bool can_pack(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 || dtype == DType::kF8E4M3 ||
         is_quantized(dtype);
}

int64_t panel_bytes(DType dtype, int64_t cols) {
  switch (dtype) {
    case DType::kF32:
      return cols * kPanelRows * 4;
    case DType::kF16:
      return (cols + 1) / 2 * 2 * kPanelRows * 2;
    case DType::kBF16:
      return (cols + 1) / 2 * kPanelRows * 4;
    case DType::kF8E4M3:
      return scale_header_bytes(cols) + (cols + 3) / 4 * kGroupBytes;
    default:
      break;
  }
  const BlockLayout layout = block_layout(dtype);
  const int64_t blocks = cols / kBlock;
  const int64_t bytes =
      layout.is_super() ? blocks / kSuperBlocks * layout.super_bytes() : blocks * layout.block_bytes();
  return (bytes + 63) / 64 * 64;
}

int64_t scale_header_bytes(int64_t cols) { return (scale_blocks(cols) * 4 + 63) / 64 * 64; }

int64_t panel_count(int64_t rows) { return (rows + kPanelRows - 1) / kPanelRows; }

}  // namespace gantry::cpu

// Descriptors for the bulk tensor copy engine.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "base/status.h"

namespace gantry::sm90 {

struct TensorMapSpec {
  CUtensorMapDataType type = CU_TENSOR_MAP_DATA_TYPE_UINT8;
  int element_bytes = 1;
  const void* base = nullptr;  // device, 16-byte aligned
  uint64_t cols = 0;           // contiguous dimension
  uint64_t rows = 0;
  uint64_t row_stride = 0;  // bytes, a multiple of 16
  uint32_t box_cols = 0;    // box_cols * element_bytes = 128: one swizzle atom wide
  uint32_t box_rows = 0;
  // What a miss fetches. 128 bytes are 1 to 3% faster for most weights; gate_up, with two streams a block, wants 256
  // (bench/cuda on an H200, 2026-11-24).
  CUtensorMapL2promotion promotion = CU_TENSOR_MAP_L2_PROMOTION_L2_128B;
};

// A 2-D map with the 128-byte swizzle; boxes read past the edge as zeros.
Result<CUtensorMap> make_tensor_map(const TensorMapSpec& spec);

}  // namespace gantry::sm90

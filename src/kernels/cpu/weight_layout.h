// The packed layout of a weight part, the same for every instruction set: panels of 16 output rows, each
// panel contiguous. A 32-bit lane belongs to one output row, so that a vector of lanes makes 4, 8 or 16
// outputs.
//
//   F32   [cols][16] f32
//   F16   [cols][16] f16
//   BF16  [cols / 2][16][2] bf16, cols padded to even with zero
//   block formats: [cols / 32] quants, then [cols / 32 or cols / 256] scales, padded to 64 bytes.
//     quants of 32 columns; a "group" is 4 columns x 16 rows, 64 bytes, byte 4 n + j for row n, column j:
//       4 bits  [4][64]: low nibbles hold group i, high nibbles group i + 4
//       5 bits  as 4, then [16] u32: bit 8 j + g is the fifth bit of column 4 g + j
//       6 bits  as 4, then [2][16] u32: bits 8 j + 2 g of word h are the high bits of column 16 h + 4 g + j
//       8 bits  [8][64]: q + 128, unsigned
//     scales:
//       Q4_0, Q5_0, Q8_0  per 32:  f16 d[16]
//       Q4_1, Q5_1        per 32:  f16 d[16], f16 m[16]
//       Q4_K, Q5_K        per 256: f16 d[16], f16 dmin[16], 8 x { u8 scale[16], u8 min[16] }
//       Q6_K              per 256: f16 d[16], 8 x { i8 scale_first_16[16], i8 scale_last_16[16] }
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace gantry::cpu {

inline constexpr int kPanelRows = 16;
inline constexpr int kBlock = 32;  // columns of one block, and of one activation block
inline constexpr int kGroupBytes = 64;
inline constexpr int kSuperBlocks = 8;  // blocks of a K-quant's super-block
inline constexpr uint32_t kPanelLayout = 1;

struct BlockLayout {
  int quant_bytes;   // of one panel and one block
  int scale_bytes;   // of one panel and one scale record
  int scale_blocks;  // blocks that share a scale record
};

// CHECKs that dtype is a block format.
BlockLayout block_layout(DType dtype);

// Floats and block formats can be packed; integers and FP8 cannot.
bool can_pack(DType dtype);
// Bytes of one panel; cols is a multiple of the format's block.
int64_t panel_bytes(DType dtype, int64_t cols);
int64_t panel_count(int64_t rows);

}  // namespace gantry::cpu

// The packed layout of a weight part, the same for every instruction set: panels of 16 output rows, each
// panel contiguous. A 32-bit lane belongs to one output row, so that a vector of lanes makes 4, 8 or 16
// outputs.
//
//   F32   [cols][16] f32
//   F16   [cols][16] f16
//   BF16  [cols / 2][16][2] bf16, cols padded to even with zero
//   F8_E4M3  f32 scale[ceil(cols / 128)], padded to 64 bytes; then groups as below, cols padded to 4 with zero
//   block formats: one stream of bytes, in the order in which it is read, as the hardware prefetches best:
//     Q4_0 ... Q8_0  per 32 columns: quants, f16 d[16] (Q4_1, Q5_1: then f16 m[16])
//     Q4_K, Q5_K     per 256: f16 d[16], f16 dmin[16], 8 x { quants, u8 scale[16], u8 min[16] }
//     Q6_K           per 256: f16 d[16], 8 x { quants, i8 scale_first_16[16], i8 scale_last_16[16] }
//   quants of 32 columns; a "group" is 4 columns x 16 rows, 64 bytes, byte 4 n + j for row n, column j:
//     4 bits  [4][64]: low nibbles hold group i, high nibbles group i + 4
//     5 bits  as 4, then [16] u32: bit 8 j + g is the fifth bit of column 4 g + j
//     6 bits  as 4, then [2][16] u32: bits 8 j + 2 g of word h are the high bits of column 16 h + 4 g + j
//     8 bits  [8][64]: q + 128, unsigned
//   A panel is padded to a multiple of 64 bytes.
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
  int quant_bytes = 0;   // of one panel and one block of 32 columns
  int scale_bytes = 0;   // that follow them
  int header_bytes = 0;  // before the 8 blocks of a K-quant; 0 for the other formats

  bool is_super() const { return header_bytes > 0; }
  int64_t block_bytes() const { return quant_bytes + scale_bytes; }
  int64_t super_bytes() const { return header_bytes + kSuperBlocks * block_bytes(); }
  // From a panel's start: the super-block's header, and the quants of block b.
  int64_t header_offset(int64_t b) const { return b / kSuperBlocks * super_bytes(); }
  int64_t block_offset(int64_t b) const {
    return is_super() ? header_offset(b) + header_bytes + b % kSuperBlocks * block_bytes()
                      : b * block_bytes();
  }
};

// CHECKs that dtype is a block format.
BlockLayout block_layout(DType dtype);

// Floats and block formats can be packed; integers cannot.
bool can_pack(DType dtype);
// Bytes of one panel; cols is a multiple of the format's block.
int64_t panel_bytes(DType dtype, int64_t cols);
int64_t panel_count(int64_t rows);
// Bytes of the scales that an F8_E4M3 panel begins with: a panel lies in one row of scale blocks.
int64_t scale_header_bytes(int64_t cols);

}  // namespace gantry::cpu

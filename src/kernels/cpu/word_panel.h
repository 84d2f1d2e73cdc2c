// Packing of weights whose panels interleave 32-bit words of 16 rows (F32, BF16, FP8), as fast as memory moves: a layer of
// R1 has 11 GB of them.
#pragma once

#include <cstdint>

namespace gantry::cpu {

// `count` (1 to 16) rows of `row_bytes` bytes, one behind the other, as the words [row_bytes / 4][16] of a panel: a last
// word that is not whole is padded with zeros, and so are rows that are missing.
void pack_word_panel(const uint8_t* rows, int64_t count, int64_t row_bytes, uint8_t* panel);

// The same of rows of `cols` e4m3 codes, behind the scales of their row of blocks [ceil(cols / 128)] (weight_layout.h).
// False if a code is a NaN.
bool pack_fp8_panel(const uint8_t* codes, int64_t count, int64_t cols, const float* scales, uint8_t* panel);

}  // namespace gantry::cpu

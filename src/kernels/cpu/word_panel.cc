#include "kernels/cpu/word_panel.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/weight_layout.h"
#include "kernels/ops/packed_weight.h"

namespace gantry::cpu {
namespace {

using Words = uint32_t __attribute__((vector_size(16)));

Words load(const uint8_t* p) {
  Words v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

// The top bit of a byte is set where its seven low bits are: an e4m3 NaN.
Words nan_bits(Words words) { return (words & 0x7f7f7f7fu) + 0x01010101u; }

// 4 words of 4 rows, which are `stride` bytes apart: a transposition.
Words pack_square(const uint8_t* rows, int64_t stride, uint8_t* groups) {
  const Words a = load(rows), b = load(rows + stride), c = load(rows + 2 * stride),
              d = load(rows + 3 * stride);
  const Words ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  const Words cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  const Words ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Words cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  const Words out[4] = {__builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5),
                        __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7),
                        __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5),
                        __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7)};
  for (int g = 0; g < 4; ++g) std::memcpy(groups + g * kGroupBytes, &out[g], sizeof(out[g]));
  return nan_bits(a) | nan_bits(b) | nan_bits(c) | nan_bits(d);
}

// The words of pack_word_panel(); of their bytes the nan_bits(), joined.
uint32_t pack_words(const uint8_t* rows, int64_t count, int64_t row_bytes, uint8_t* groups) {
  constexpr int64_t kSquare = 16;  // bytes of a row
  Words nans{};
  const int64_t squares = count == kPanelRows ? row_bytes / kSquare * kSquare : 0;
  for (int64_t k = 0; k < squares; k += kSquare) {
    for (int quad = 0; quad < 4; ++quad) {
      nans |=
          pack_square(rows + quad * 4 * row_bytes + k, row_bytes, groups + k / 4 * kGroupBytes + quad * 16);
    }
  }
  for (int64_t k = squares; k < row_bytes; k += 4) {
    uint8_t* const group = groups + k / 4 * kGroupBytes;
    std::memset(group, 0, kGroupBytes);
    for (int64_t n = 0; n < count; ++n) {
      uint32_t word = 0;
      std::memcpy(&word, rows + n * row_bytes + k, static_cast<size_t>(std::min<int64_t>(4, row_bytes - k)));
      std::memcpy(group + n * 4, &word, sizeof(word));
      nans |= nan_bits(Words{word});
    }
  }
  return nans[0] | nans[1] | nans[2] | nans[3];
}

}  // namespace

void pack_word_panel(const uint8_t* rows, int64_t count, int64_t row_bytes, uint8_t* panel) {
  pack_words(rows, count, row_bytes, panel);
}

bool pack_fp8_panel(const uint8_t* codes, int64_t count, int64_t cols, const float* scales, uint8_t* panel) {
  const auto scale_bytes = static_cast<size_t>(scale_blocks(cols)) * sizeof(float);
  const auto header = static_cast<size_t>(scale_header_bytes(cols));
  std::memcpy(panel, scales, scale_bytes);
  std::memset(panel + scale_bytes, 0, header - scale_bytes);
  return (pack_words(codes, count, cols, panel + header) & 0x80808080u) == 0;
}

}  // namespace gantry::cpu

// How a tile reads a packed block format (weight_layout.h): quants four columns at a time, and scales.
#pragma once

#include <cstdint>

namespace gantry::cpu {

enum class Scales {
  kD,       // w = d (q - offset)
  kDM,      // w = d q + m
  kSuper,   // the same; d and m are products of f16 and 6-bit factors
  kHalves,  // w = d (q - offset), one d for each half of the block
};

template <int Bits, Scales ScaleKind, int Offset>
struct BlockFormat {
  static constexpr int kBits = Bits;
  static constexpr Scales kScales = ScaleKind;
  static constexpr int kOffset = Offset;
  static constexpr bool kHasMin = ScaleKind == Scales::kDM || ScaleKind == Scales::kSuper;
  static constexpr int kQuantBytes = Bits == 8 ? 512 : Bits == 6 ? 384 : Bits == 5 ? 320 : 256;
  static constexpr int kBlockBytes = kQuantBytes + (ScaleKind == Scales::kDM ? 64 : 32);
  static constexpr int kHeaderBytes = ScaleKind == Scales::kSuper    ? 64
                                      : ScaleKind == Scales::kHalves ? 32
                                                                     : 0;

  // The header of the super-block that holds block b, and the quants of block b.
  static const uint8_t* header(const uint8_t* panel, int64_t b) {
    return panel + b / 8 * (kHeaderBytes + 8 * kBlockBytes);
  }
  static const uint8_t* quants(const uint8_t* panel, int64_t b) {
    if constexpr (kHeaderBytes == 0) return panel + b * kBlockBytes;
    return header(panel, b) + kHeaderBytes + b % 8 * kBlockBytes;
  }

  // Quants of groups J and J + 4 for the lanes from `lane`, a byte each.
  template <class V, int J>
  static void pair(const uint8_t* quants, int lane, typename V::I& low, typename V::I& high) {
    const typename V::I x = V::load_bits(quants + J * 64 + lane * 4);
    if constexpr (Bits == 8) {
      low = x;
      high = V::load_bits(quants + (J + 4) * 64 + lane * 4);
    } else {
      low = V::bits_and(x, 0x0f0f0f0f);
      high = V::bits_and(V::template shift_right<4>(x), 0x0f0f0f0f);
    }
    if constexpr (Bits == 5) {
      const typename V::I h = V::load_bits(quants + 256 + lane * 4);
      low = V::bits_or(low, V::bits_and(V::template shift_left<4 - J>(h), 0x10101010));
      high = V::bits_or(high, V::bits_and(V::template shift_right<J>(h), 0x10101010));
    } else if constexpr (Bits == 6) {
      low = V::bits_or(low, high_pair<V, J>(V::load_bits(quants + 256 + lane * 4)));
      high = V::bits_or(high, high_pair<V, J>(V::load_bits(quants + 320 + lane * 4)));
    }
  }

  // Of block `b` and the lanes from `lane`: d and m, or the d of each half.
  template <class V>
  static void scales(const uint8_t* panel, int64_t b, int lane, typename V::F& first, typename V::F& second) {
    const uint8_t* scales = quants(panel, b) + kQuantBytes;
    if constexpr (ScaleKind == Scales::kD) {
      first = V::load_f16(scales + lane * 2);
      second = first;
    } else if constexpr (ScaleKind == Scales::kDM) {
      first = V::load_f16(scales + lane * 2);
      second = V::load_f16(scales + 32 + lane * 2);
    } else {
      const typename V::F d = V::load_f16(header(panel, b) + lane * 2);
      if constexpr (ScaleKind == Scales::kSuper) {
        const typename V::F dmin = V::load_f16(header(panel, b) + 32 + lane * 2);
        first = V::mul(d, V::load_u8(scales + lane));
        second = V::sub(V::zero(), V::mul(dmin, V::load_u8(scales + 16 + lane)));
      } else {
        first = V::mul(d, V::load_i8(scales + lane));
        second = V::mul(d, V::load_i8(scales + 16 + lane));
      }
    }
  }

 private:
  // Bits 8 j + 2 J and 8 j + 2 J + 1 moved to bits 4 and 5 of byte j.
  template <class V, int J>
  static typename V::I high_pair(typename V::I h) {
    if constexpr (J == 3) {
      return V::bits_and(V::template shift_right<2>(h), 0x30303030);
    } else {
      return V::bits_and(V::template shift_left<4 - 2 * J>(h), 0x30303030);
    }
  }
};

using Q4_0 = BlockFormat<4, Scales::kD, 8>;
using Q4_1 = BlockFormat<4, Scales::kDM, 0>;
using Q5_0 = BlockFormat<5, Scales::kD, 16>;
using Q5_1 = BlockFormat<5, Scales::kDM, 0>;
using Q8_0 = BlockFormat<8, Scales::kD, 128>;
using Q4_K = BlockFormat<4, Scales::kSuper, 0>;
using Q5_K = BlockFormat<5, Scales::kSuper, 0>;
using Q6_K = BlockFormat<6, Scales::kHalves, 32>;

}  // namespace gantry::cpu

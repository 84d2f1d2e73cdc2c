// UTF-8 and the character classes that pre-tokenisers are written in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace gantry {

// Bits of char_classes(). Letter, mark, number, punctuation or symbol are the general categories L, M, N, P
// and S of Unicode 16.0 (as in Oniguruma, which published tokenizers run on), and space is \s there.
enum CharClass : uint8_t {
  kLetter = 1 << 0,
  kMark = 1 << 1,
  kNumber = 1 << 2,
  kPunctuation = 1 << 3,
  kSpace = 1 << 4,
  kNewline = 1 << 5,  // \r and \n
  kKanaHan = 1 << 6,  // U+4E00..9FA5, U+3040..30FF: DeepSeek's class
  kDigit = 1 << 7,    // what Hugging Face's Digits isolates: kNumber and what Unicode 17.0 added to it
};

// The class bits of each code point; 0x110000 entries.
const uint8_t* char_classes();

// A character that Unicode gave an order or a composition after version 9.0, the one that Hugging Face's NFC
// follows: it stays as it is there.
bool is_normalization_exception(uint32_t code_point);

bool is_valid_utf8(std::string_view text);

struct CodePoint {
  uint32_t value;
  uint32_t bytes;
};

// The first code point of well-formed UTF-8 that is not empty.
inline CodePoint decode_utf8(const char* p) {
  const auto* b = reinterpret_cast<const uint8_t*>(p);
  if (b[0] < 0x80) return {b[0], 1};
  if (b[0] < 0xe0) return {(b[0] & 0x1fu) << 6 | (b[1] & 0x3fu), 2};
  if (b[0] < 0xf0) return {(b[0] & 0x0fu) << 12 | (b[1] & 0x3fu) << 6 | (b[2] & 0x3fu), 3};
  return {(b[0] & 0x07u) << 18 | (b[1] & 0x3fu) << 12 | (b[2] & 0x3fu) << 6 | (b[3] & 0x3fu), 4};
}

void append_utf8(uint32_t code_point, std::string& out);

// Appends `bytes` to `out`, each maximal ill-formed part replaced by one U+FFFD (Unicode 16.0 section 3.9,
// and what Rust and Python do). Returns how many bytes at the end are the incomplete start of a character;
// those are not appended.
size_t append_well_formed(std::string_view bytes, std::string& out);

inline constexpr std::string_view kReplacementCharacter = "\xef\xbf\xbd";

}  // namespace gantry

#include "text/byte_alphabet.h"

#include <array>
#include <cstdint>

namespace gantry {
namespace {

constexpr int kNoByte = -1;
constexpr uint32_t kAlphabetEnd = 256 + 68;  // 68 bytes have no printable character of their own

struct Alphabet {
  std::array<uint32_t, 256> character{};  // byte → code point
  std::array<int, kAlphabetEnd> byte{};   // code point → byte, or kNoByte
};

constexpr bool is_printable_latin1(uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
}

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  alphabet.byte.fill(kNoByte);
  uint32_t next = 256;
  for (uint32_t b = 0; b < 256; ++b) {
    const uint32_t c = is_printable_latin1(b) ? b : next++;
    alphabet.character[b] = c;
    alphabet.byte[c] = static_cast<int>(b);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

std::string undo_byte_alphabet(std::string_view written) {
  std::string bytes;
  bytes.reserve(written.size());
  for (size_t i = 0; i < written.size();) {
    const auto lead = static_cast<uint8_t>(written[i]);
    uint32_t c = kAlphabetEnd;
    size_t length = 1;
    if (lead < 0x80) {
      c = lead;
    } else if (lead >= 0xc2 && lead < 0xe0 && i + 1 < written.size() &&
               (static_cast<uint8_t>(written[i + 1]) & 0xc0) == 0x80) {
      c = static_cast<uint32_t>(lead & 0x1f) << 6 | (static_cast<uint8_t>(written[i + 1]) & 0x3f);
      length = 2;
    }
    if (c >= kAlphabetEnd || kAlphabet.byte[c] == kNoByte) return std::string(written);
    bytes += static_cast<char>(kAlphabet.byte[c]);
    i += length;
  }
  return bytes;
}

std::string to_byte_alphabet(std::string_view bytes) {
  std::string written;
  written.reserve(bytes.size() * 2);
  for (const char byte : bytes) {
    const uint32_t c = kAlphabet.character[static_cast<uint8_t>(byte)];
    if (c < 0x80) {
      written += static_cast<char>(c);
    } else {
      written += static_cast<char>(0xc0 | c >> 6);
      written += static_cast<char>(0x80 | (c & 0x3f));
    }
  }
  return written;
}

}  // namespace gantry

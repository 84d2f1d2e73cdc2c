#include "text/unicode.h"

#include <simdjson.h>

#include <cstring>
#include <memory>

namespace gantry {
namespace {

constexpr size_t kCodePoints = 0x110000;

struct ClassRun {
  uint32_t first;
  uint8_t char_class;
};
struct CodePointRange {
  uint32_t first;
  uint32_t last;
};
#include "text/unicode_tables.inc"

std::unique_ptr<uint8_t[]> expand_runs() {
  auto classes = std::make_unique<uint8_t[]>(kCodePoints);
  const size_t runs = std::size(kClassRuns);
  for (size_t i = 0; i < runs; ++i) {
    const size_t end = i + 1 < runs ? kClassRuns[i + 1].first : kCodePoints;
    std::memset(classes.get() + kClassRuns[i].first, kClassRuns[i].char_class, end - kClassRuns[i].first);
  }
  return classes;
}

// The bytes of the well-formed sequence, or of the longest start of one, at the front of `bytes`.
struct Sequence {
  size_t length;
  bool complete;
  bool cut_by_end;  // incomplete, and more bytes could complete it
};

Sequence scan_sequence(std::string_view bytes) {
  const auto lead = static_cast<uint8_t>(bytes[0]);
  if (lead < 0x80) return {1, true, false};
  size_t length = 0;
  uint8_t low = 0x80;
  uint8_t high = 0xbf;
  // Unicode 16.0, table 3-7: the second byte's range excludes overlong forms, surrogates and beyond U+10FFFF.
  if (lead >= 0xc2 && lead <= 0xdf) {
    length = 2;
  } else if (lead >= 0xe0 && lead <= 0xef) {
    length = 3;
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    length = 4;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
  } else {
    return {1, false, false};
  }
  for (size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {i, false, true};
    const auto byte = static_cast<uint8_t>(bytes[i]);
    if (byte < low || byte > high) return {i, false, false};
    low = 0x80;
    high = 0xbf;
  }
  return {length, true, false};
}

}  // namespace

const uint8_t* char_classes() {
  static const std::unique_ptr<uint8_t[]> classes = expand_runs();
  return classes.get();
}

bool is_normalization_exception(uint32_t code_point) {
  if (code_point < kNotNormalized[0].first) return false;
  for (const CodePointRange& range : kNotNormalized) {
    if (code_point <= range.last) return code_point >= range.first;
  }
  return false;
}

bool is_valid_utf8(std::string_view text) { return simdjson::validate_utf8(text.data(), text.size()); }

void append_utf8(uint32_t c, std::string& out) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xc0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xe0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 0x3f));
    out += static_cast<char>(0x80 | (c & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | c >> 18);
    out += static_cast<char>(0x80 | (c >> 12 & 0x3f));
    out += static_cast<char>(0x80 | (c >> 6 & 0x3f));
    out += static_cast<char>(0x80 | (c & 0x3f));
  }
}

size_t append_well_formed(std::string_view bytes, std::string& out) {
  while (!bytes.empty()) {
    const Sequence sequence = scan_sequence(bytes);
    if (sequence.cut_by_end) return bytes.size();
    if (sequence.complete) {
      out.append(bytes.substr(0, sequence.length));
    } else {
      out.append(kReplacementCharacter);
    }
    bytes.remove_prefix(sequence.length);
  }
  return 0;
}

}  // namespace gantry

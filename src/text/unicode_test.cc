#include "text/unicode.h"

#include <gtest/gtest.h>

#include <vector>

namespace gantry {
namespace {

TEST(Unicode, ClassesOfEachKind) {
  const uint8_t* classes = char_classes();
  EXPECT_EQ(classes['a'], kLetter);
  EXPECT_EQ(classes['7'], kNumber | kDigit);
  EXPECT_EQ(classes['_'], kPunctuation);
  EXPECT_EQ(classes['+'], kPunctuation);
  EXPECT_EQ(classes['\n'], kSpace | kNewline);
  EXPECT_EQ(classes[0x1c], 0);
  EXPECT_EQ(classes[0x301], kMark);
  EXPECT_EQ(classes[0x4e00], kLetter | kKanaHan);
  EXPECT_EQ(classes[0x30fb], kPunctuation | kKanaHan);
  EXPECT_EQ(classes[0x180e], 0);
  EXPECT_EQ(classes[0x3000], kSpace);
  EXPECT_EQ(classes[0x1c89], kLetter) << "Unicode 16.0";
  EXPECT_EQ(classes[0x11de0], kDigit) << "a number since Unicode 17.0";
  EXPECT_EQ(classes[0x10ffff], 0);
}

TEST(Unicode, EveryCodePointRoundTrips) {
  std::string text;
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xd800 && c < 0xe000) continue;
    text.clear();
    append_utf8(c, text);
    ASSERT_TRUE(is_valid_utf8(text)) << c;
    const CodePoint decoded = decode_utf8(text.data());
    ASSERT_EQ(decoded.value, c);
    ASSERT_EQ(decoded.bytes, text.size());
  }
}

struct Repair {
  std::string bytes;
  std::string text;
  size_t incomplete;
};

TEST(Unicode, IllFormedPartsBecomeOneReplacementEach) {
  const std::string r(kReplacementCharacter);
  const std::vector<Repair> cases = {
      {"abc", "abc", 0},
      {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80", 0},
      {"a\xf0\x9f\x98", "a", 3},
      {"\xe4", "", 1},
      {"\xe4\xb8z", r + "z", 0},
      {"\xc0\xaf", r + r, 0},
      {"\xed\xa0\x80", r + r + r, 0},          // a surrogate
      {"\xf4\x90\x80\x80", r + r + r + r, 0},  // beyond U+10FFFF
      {"\xf0\x80\x80", r + r + r, 0},          // overlong
      {"\x80\xff", r + r, 0},
      {"\xf0\x9f\xf0\x9f\x98\x80", r + "\xf0\x9f\x98\x80", 0},
  };
  for (const Repair& c : cases) {
    std::string out;
    EXPECT_EQ(append_well_formed(c.bytes, out), c.incomplete);
    EXPECT_EQ(out, c.text);
  }
}

}  // namespace
}  // namespace gantry

#include "text/byte_alphabet.h"

#include <gtest/gtest.h>

namespace gantry {
namespace {

TEST(ByteAlphabet, EveryByteHasItsOwnCharacter) {
  std::string all;
  for (int b = 0; b < 256; ++b) all += static_cast<char>(b);
  EXPECT_EQ(undo_byte_alphabet(to_byte_alphabet(all)), all);
}

TEST(ByteAlphabet, PublishedSpellings) {
  EXPECT_EQ(to_byte_alphabet(" a\n"), "\u0120a\u010a");
  EXPECT_EQ(to_byte_alphabet(std::string_view("\0", 1)), "\u0100");
  EXPECT_EQ(to_byte_alphabet("\x7f\xa0\xad"), "\u0121\u0142\u0143");
  EXPECT_EQ(undo_byte_alphabet("\u0120the"), " the");
  EXPECT_EQ(undo_byte_alphabet("\u00e4\u00b8\u0143"), "\xe4\xb8\xad");
}

TEST(ByteAlphabet, ATokenWithACharacterOutsideStandsForItself) {
  EXPECT_EQ(undo_byte_alphabet("\uff5c"), "\uff5c");
  EXPECT_EQ(undo_byte_alphabet(" "), " ");
  EXPECT_EQ(undo_byte_alphabet("\xc4"), "\xc4");
  EXPECT_EQ(undo_byte_alphabet("\u0120\uff5c"), "\u0120\uff5c");
}

}  // namespace
}  // namespace gantry

#include "text/nfc.h"

#include <gtest/gtest.h>

namespace gantry {
namespace {

TEST(Nfc, ComposesAndOrders) {
  EXPECT_EQ(to_nfc(""), "");
  EXPECT_EQ(to_nfc("plain"), "plain");
  EXPECT_EQ(to_nfc("e\u0301"), "\u00e9");
  EXPECT_EQ(to_nfc("\u212b"), "\u00c5");
  EXPECT_EQ(to_nfc("q\u0307\u0323"), "q\u0323\u0307");
  EXPECT_EQ(to_nfc("\u1112\u1161\u11ab"), "\ud55c");
  EXPECT_EQ(to_nfc("\uac00\u11a8x"), "\uac01x");
  EXPECT_EQ(to_nfc("\u304b\u3099\u4e00"), "\u304c\u4e00");
  EXPECT_EQ(to_nfc("\u0344"), "\u0308\u0301");
  EXPECT_EQ(to_nfc("\u0301e"), "\u0301e");
}

// Hugging Face's tables are those of Unicode 9.0.
TEST(Nfc, LaterCharactersStayAsTheyAre) {
  EXPECT_EQ(to_nfc("q\u0345\u08ca"), "q\u0345\u08ca");
  EXPECT_EQ(to_nfc("\U00011935\U00011930"), "\U00011935\U00011930");
}

TEST(Nfc, ManyMarksInTheWrongOrder) {
  std::string text = "q";
  std::string above;
  for (int i = 0; i < 50'000; ++i) {
    text += "\u0301\u0323";
    above += "\u0301";
  }
  std::string sorted = "q";
  for (int i = 0; i < 50'000; ++i) sorted += "\u0323";
  EXPECT_EQ(to_nfc(text), sorted + above);
}

}  // namespace
}  // namespace gantry

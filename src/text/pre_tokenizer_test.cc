#include "text/pre_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace gantry {
namespace {

using testing::ElementsAre;

std::vector<std::string> pieces(PreTokenizer kind, std::string_view text) {
  std::vector<std::string> out;
  PreTokenizerScan scan(kind, text);
  for (std::string_view piece; scan.next(piece);) out.emplace_back(piece);
  return out;
}

TEST(PreTokenizer, Gpt2WordsKeepTheSpaceBeforeThem) {
  EXPECT_THAT(pieces(PreTokenizer::kGpt2, "Hello  world! 123abc"),
              ElementsAre("Hello", " ", " world", "!", " 123", "abc"));
  EXPECT_THAT(pieces(PreTokenizer::kGpt2, "a \n b  "), ElementsAre("a", " \n", " b", "  "));
}

TEST(PreTokenizer, Gpt2ContractionsAreLowerCase) {
  EXPECT_THAT(pieces(PreTokenizer::kGpt2, "I'll you'RE 'x"),
              ElementsAre("I", "'ll", " you", "'", "RE", " '", "x"));
}

TEST(PreTokenizer, SmolLm2TakesEachDigitOutFirst) {
  EXPECT_THAT(pieces(PreTokenizer::kSmolLm2, "in  2024, ok"),
              ElementsAre("in", "  ", "2", "0", "2", "4", ",", " ok"));
  EXPECT_THAT(pieces(PreTokenizer::kSmolLm2, "\u0663\u00bd"), ElementsAre("\u0663", "\u00bd"));
}

TEST(PreTokenizer, Llama3GroupsThreeDigitsAndPrefixesWords) {
  EXPECT_THAT(pieces(PreTokenizer::kLlama3, "12345 (abc\tdef"),
              ElementsAre("123", "45", " (", "abc", "\tdef"));
  EXPECT_THAT(pieces(PreTokenizer::kLlama3, "it'S don'\u017f"), ElementsAre("it", "'S", " don", "'\u017f"));
  EXPECT_THAT(pieces(PreTokenizer::kLlama3, "x!\r\n\n y"), ElementsAre("x", "!\r\n\n", " y"));
  EXPECT_THAT(pieces(PreTokenizer::kLlama3, "x \n  \n  y"), ElementsAre("x", " \n  \n", " ", " y"));
}

TEST(PreTokenizer, Qwen2TakesDigitsAlone) {
  EXPECT_THAT(pieces(PreTokenizer::kQwen2, "12 345"), ElementsAre("1", "2", " ", "3", "4", "5"));
}

TEST(PreTokenizer, DeepSeekSplitsDigitsThenKanaAndHanThenTheRest) {
  EXPECT_THAT(pieces(PreTokenizer::kDeepSeekV3, "1234\u4e2d\u6587abc"),
              ElementsAre("123", "4", "\u4e2d\u6587", "abc"));
  EXPECT_THAT(pieces(PreTokenizer::kDeepSeekV3, "\u30a2\u30fb\u30a4"),
              ElementsAre("\u30a2", "\u30fb", "\u30a4"));
  EXPECT_THAT(pieces(PreTokenizer::kDeepSeekV3, "(abc, .def)"), ElementsAre("(abc", ",", " .", "def", ")"));
}

TEST(PreTokenizer, DeepSeekKeepsWhatNothingMatchesTogether) {
  using std::string_literals::operator""s;
  EXPECT_THAT(pieces(PreTokenizer::kDeepSeekV3, "\0\0\0a\0"s), ElementsAre("\0\0"s, "\0a"s, "\0"s));
}

TEST(PreTokenizer, TheMongolianVowelSeparatorIsNoSpace) {
  EXPECT_THAT(pieces(PreTokenizer::kGpt2, "  \u180e"), ElementsAre(" ", " \u180e"));
}

TEST(PreTokenizer, PiecesAreTheText) {
  const std::string text =
      "a'\u017f \u00a0\u3000\n\r\n12\u06f3\u0301\u4e00\u30fb.x \U0001f600\u200d!? \u0e01";
  for (const PreTokenizer kind : {PreTokenizer::kGpt2, PreTokenizer::kSmolLm2, PreTokenizer::kLlama3,
                                  PreTokenizer::kQwen2, PreTokenizer::kDeepSeekV3}) {
    std::string joined;
    for (const std::string& piece : pieces(kind, text)) {
      EXPECT_FALSE(piece.empty());
      joined += piece;
    }
    EXPECT_EQ(joined, text) << to_string(kind);
    EXPECT_THAT(pieces(kind, ""), ElementsAre());
  }
}

}  // namespace
}  // namespace gantry

#include "chat/reasoning_parser.h"

#include <gtest/gtest.h>

namespace gantry {
namespace {

struct Split {
  std::string reasoning;
  std::string content;
};

// Feeds `text` in pieces of `size` bytes.
Split split(std::string_view text, bool starts_inside, size_t size) {
  ReasoningParser parser(starts_inside);
  Split out;
  const auto take = [&](const ReasoningDelta& delta) {
    out.reasoning += delta.reasoning;
    out.content += delta.content;
  };
  for (size_t at = 0; at < text.size(); at += size) take(parser.push(text.substr(at, size)));
  take(parser.finish());
  return out;
}

struct Case {
  const char* text;
  bool starts_inside;
  const char* reasoning;
  const char* content;
};

class ReasoningParserTest : public ::testing::TestWithParam<Case> {};

TEST_P(ReasoningParserTest, IsTheSameHoweverTheTextIsCut) {
  const Case& c = GetParam();
  const std::string text = c.text;
  for (size_t size = 1; size <= text.size() + 1; ++size) {
    const Split got = split(text, c.starts_inside, size);
    EXPECT_EQ(got.reasoning, c.reasoning) << "pieces of " << size;
    EXPECT_EQ(got.content, c.content) << "pieces of " << size;
  }
}

INSTANTIATE_TEST_SUITE_P(Texts, ReasoningParserTest,
                         ::testing::Values(Case{"hm\n</think>\n\nYes.", true, "hm", "Yes."},            //
                                           Case{"\n\nhm", true, "hm", ""},                              //
                                           Case{"hm\n", true, "hm\n", ""},                              //
                                           Case{"a\n\nb</think>c\n", true, "a\n\nb", "c\n"},            //
                                           Case{"</think>", true, "", ""},                              //
                                           Case{"a</thin", true, "a</thin", ""},                        //
                                           Case{"a</thin</think>b", true, "a</thin", "b"},              //
                                           Case{"a<think>b</think>c", true, "a<think>b", "c"},          //
                                           Case{"<think>\nhm\n</think>\n\nYes.", false, "hm", "Yes."},  //
                                           Case{" \n<think>hm</think>Yes.", false, "hm", "Yes."},       //
                                           Case{"Yes. <think>no</think>", false, "",
                                                "Yes. <think>no</think>"},
                                           Case{"  Yes.", false, "", "  Yes."},                         //
                                           Case{"<thi", false, "", "<thi"},                             //
                                           Case{"<thing>", false, "", "<thing>"},                       //
                                           Case{"  ", false, "", "  "},                                 //
                                           Case{"", false, "", ""},                                     //
                                           Case{"<think></think>a</think>b", false, "", "a</think>b"},  //
                                           Case{"<think>x</think>\n\n\n  y", false, "x", "  y"}));

TEST(ReasoningParserTest, SaysWhichSideIsOpen) {
  ReasoningParser parser(false);
  EXPECT_FALSE(parser.inside());
  (void)parser.push("<think>a");
  EXPECT_TRUE(parser.inside());
  (void)parser.push("</think>");
  EXPECT_FALSE(parser.inside());
}

TEST(ReasoningParserTest, PassesOnWhatIsCertain) {
  ReasoningParser parser(true);
  EXPECT_EQ(parser.push("thought").reasoning, "thought");
  EXPECT_EQ(parser.push(" one\n").reasoning, " one");
  EXPECT_EQ(parser.push("two</").reasoning, "\ntwo");
  EXPECT_EQ(parser.push("b").reasoning, "</b");
}

bool opens_reasoning(const std::vector<PromptPiece>& pieces) { return prompt_opens_reasoning(pieces); }

TEST(PromptOpensReasoningTest, LooksAtTheEnd) {
  EXPECT_TRUE(opens_reasoning({{"<|Assistant|><think>\n", true}}));
  EXPECT_TRUE(opens_reasoning({{"<think>", true}}));
  EXPECT_TRUE(opens_reasoning({{"<|User|>", true}, {"hi", false}, {"<|Assistant|><think>\n", true}}));
  EXPECT_FALSE(opens_reasoning({{"<think>\n\n</think>\n\n", true}}));
  EXPECT_FALSE(opens_reasoning({{"<think> is a tag", true}}));
  EXPECT_FALSE(opens_reasoning({}));
}

TEST(PromptOpensReasoningTest, WhatAMessageBringsIsText) {
  EXPECT_FALSE(opens_reasoning({{"<|User|>", true}, {"<think>", false}}));
  EXPECT_FALSE(opens_reasoning({{"<|User|>", true}, {"<think>", false}, {"\n", true}}));
  EXPECT_FALSE(opens_reasoning({{"<think>", true}, {"x", false}, {"\n", true}}));
  EXPECT_FALSE(opens_reasoning({{"<thi", true}, {"nk>", false}}));
  EXPECT_TRUE(opens_reasoning({{"<think>", true}, {"\n", false}}));
}

}  // namespace
}  // namespace gantry

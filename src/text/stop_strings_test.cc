#include "text/stop_strings.h"

#include <gtest/gtest.h>

#include <random>

namespace gantry {
namespace {

struct Outcome {
  std::string text;
  int stop;
};

Outcome run(const std::vector<std::string>& stops, const std::vector<std::string>& pieces,
            bool include_stop = false) {
  StopStrings search(stops);
  Outcome outcome{"", -1};
  for (const std::string& piece : pieces) {
    const int stop = search.push(piece, outcome.text, include_stop);
    if (stop >= 0) {
      EXPECT_EQ(outcome.stop, -1);
      outcome.stop = stop;
    }
  }
  const int stop = search.finish(outcome.text, include_stop);
  if (stop >= 0) {
    EXPECT_EQ(outcome.stop, -1);
    outcome.stop = stop;
  }
  return outcome;
}

// The definition: the first place where any stop string starts, and there the first of the list.
Outcome expected(const std::vector<std::string>& stops, const std::string& text, bool include_stop) {
  for (size_t at = 0; at < text.size(); ++at) {
    for (size_t i = 0; i < stops.size(); ++i) {
      if (text.compare(at, stops[i].size(), stops[i]) == 0) {
        return {text.substr(0, at + (include_stop ? stops[i].size() : 0)), static_cast<int>(i)};
      }
    }
  }
  return {text, -1};
}

TEST(StopStrings, AcrossPieces) {
  const Outcome outcome = run({"###"}, {"abc#", "#", "#def", "###"});
  EXPECT_EQ(outcome.text, "abc");
  EXPECT_EQ(outcome.stop, 0);
  EXPECT_EQ(run({"###"}, {"abc#", "#", "#def"}, true).text, "abc###");
}

TEST(StopStrings, EmitsWhatCanNoLongerBeAStop) {
  StopStrings search({"</s>"});
  std::string out;
  EXPECT_EQ(search.push("a<", out), -1);
  EXPECT_EQ(out, "a");
  EXPECT_EQ(search.push("b</s", out), -1);
  EXPECT_EQ(out, "a<b");
  EXPECT_EQ(search.finish(out), -1);
  EXPECT_EQ(out, "a<b</s");
}

TEST(StopStrings, TheEarlierMatchWinsEvenIfItEndsLater) {
  EXPECT_EQ(run({"bc", "abcd"}, {"xabc", "d"}).stop, 1);
  EXPECT_EQ(run({"bc", "abcd"}, {"xabc", "e"}).stop, 0);
  EXPECT_EQ(run({"bc", "abcd"}, {"xabc"}).text, "xa");
}

TEST(StopStrings, OfTwoThatStartTogetherTheFirstOfTheListWins) {
  EXPECT_EQ(run({"ab", "abc"}, {"abc"}).stop, 0);
  EXPECT_EQ(run({"abc", "ab"}, {"ab", "c"}).stop, 0);
  EXPECT_EQ(run({"abc", "ab"}, {"ab", "d"}).stop, 1);
}

TEST(StopStrings, NoneAtAll) { EXPECT_EQ(run({}, {"any", "thing"}).text, "anything"); }

TEST(StopStrings, RandomTextsAgreeWithTheDefinitionHoweverTheyAreCut) {
  std::mt19937 rng(7);
  for (int round = 0; round < 20'000; ++round) {
    const auto random_string = [&](size_t longest) {
      std::string s(1 + rng() % longest, 'a');
      for (char& c : s) c = static_cast<char>('a' + rng() % 2);
      return s;
    };
    std::vector<std::string> stops;
    for (size_t i = 0; i < 1 + rng() % 4; ++i) stops.push_back(random_string(7));
    const std::string text = random_string(30);
    std::vector<std::string> pieces;
    for (size_t at = 0; at < text.size();) {
      pieces.push_back(text.substr(at, 1 + rng() % 5));
      at += pieces.back().size();
    }
    const bool include_stop = rng() % 2 == 0;
    const Outcome want = expected(stops, text, include_stop);
    const Outcome got = run(stops, pieces, include_stop);
    ASSERT_EQ(got.text, want.text) << text;
    ASSERT_EQ(got.stop, want.stop) << text;
  }
}

}  // namespace
}  // namespace gantry

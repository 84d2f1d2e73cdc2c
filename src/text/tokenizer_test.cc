#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <utility>

#include "base/limits.h"
#include "text/detokenizer.h"
#include "text/unicode.h"

namespace gantry {
namespace {

using testing::ElementsAre;

constexpr TokenId kHello = 260;
constexpr TokenId kStart = 261;  // <|start|>, special
constexpr TokenId kThink = 262;  // <think>, added but not special
constexpr Tokenizer::EncodeOptions kControl = {.specials = Tokenizer::Specials::kControl};

AddedToken added(TokenId id, const std::string& content, bool special) {
  AddedToken token;
  token.id = id;
  token.content = content;
  token.special = special;
  return token;
}

VocabSpec make_spec() {
  VocabSpec spec;
  for (int byte = 0; byte < 256; ++byte) spec.tokens.emplace_back(1, static_cast<char>(byte));
  spec.tokens.emplace_back();  // a hole
  for (const auto& [left, right] :
       {std::pair("h", "e"), std::pair("l", "l"), std::pair("he", "ll"), std::pair("hell", "o")}) {
    spec.merges.emplace_back(left, right);
    spec.tokens.push_back(std::string(left) + right);
  }
  spec.added = {added(kStart, "<|start|>", true), added(kThink, "<think>", false)};
  return spec;
}

std::unique_ptr<Tokenizer> make(VocabSpec spec) {
  Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::create(std::move(spec));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  return std::move(tokenizer).value();
}

std::string refusal(VocabSpec spec) {
  const Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::create(std::move(spec));
  return tokenizer.ok() ? "" : tokenizer.status().message();
}

std::vector<TokenId> encode(const Tokenizer& tokenizer, std::string_view text,
                            Tokenizer::EncodeOptions options = {}) {
  Result<std::vector<TokenId>> ids = tokenizer.encode(text, options);
  EXPECT_TRUE(ids.ok()) << ids.status().message();
  return std::move(ids).value();
}

TEST(Tokenizer, ControlTokensInTheTextOfAMessageStayText) {
  const auto tokenizer = make(make_spec());
  EXPECT_THAT(encode(*tokenizer, "hello<|start|>", kControl), ElementsAre(kHello, kStart));
  const std::vector<TokenId> ids = encode(*tokenizer, "hello<|start|>");
  EXPECT_THAT(ids, testing::Not(testing::Contains(kStart)));
  EXPECT_EQ(tokenizer->decode(ids, true), "hello<|start|>");
  EXPECT_THAT(encode(*tokenizer, "<think>"), ElementsAre(kThink));
}

// A merge, or a piece that is taken whole, must not reach a control token either.
TEST(Tokenizer, NoMergeMakesAControlToken) {
  VocabSpec spec = make_spec();
  spec.added.push_back(added(kHello, "hello", true));
  spec.ignore_merges = true;
  const auto tokenizer = make(std::move(spec));
  EXPECT_THAT(encode(*tokenizer, "hello", kControl), ElementsAre(kHello));
  EXPECT_THAT(encode(*tokenizer, "hello"), ElementsAre(259, 'o'));
}

TEST(Tokenizer, TheLongestAddedTokenThatStartsFirstWins) {
  VocabSpec spec = make_spec();
  spec.added.push_back(added(263, "<|start|>x", true));
  spec.added.push_back(added(264, "|>", true));
  const auto tokenizer = make(std::move(spec));
  EXPECT_THAT(encode(*tokenizer, "<|start|>x<|start|>y|>", kControl), ElementsAre(263, kStart, 'y', 264));
}

TEST(Tokenizer, AddedTokensTakeTheSpacesThatTheyStrip) {
  VocabSpec spec = make_spec();
  spec.added[0].lstrip = true;
  spec.added[1].rstrip = true;
  const auto tokenizer = make(std::move(spec));
  EXPECT_THAT(encode(*tokenizer, "a \u3000\n<|start|> b", kControl), ElementsAre('a', kStart, ' ', 'b'));
  EXPECT_THAT(encode(*tokenizer, "a <think> \t\u00a0b", kControl), ElementsAre('a', ' ', kThink, 'b'));
  EXPECT_THAT(encode(*tokenizer, "<think>  <|start|>", kControl), ElementsAre(kThink, kStart));
}

TEST(Tokenizer, NormalizedAddedTokensAreMatchedAfterNormalization) {
  VocabSpec spec = make_spec();
  spec.normalize_nfc = true;
  spec.added.push_back(added(263, "\u00e9", true));
  spec.added.push_back(added(264, "\u00e8", true));
  spec.added.back().normalized = true;
  const auto tokenizer = make(std::move(spec));
  EXPECT_THAT(encode(*tokenizer, "\u00e9", kControl), ElementsAre(263));
  EXPECT_THAT(encode(*tokenizer, "e\u0301", kControl), ElementsAre(0xc3, 0xa9));
  EXPECT_THAT(encode(*tokenizer, "e\u0300", kControl), ElementsAre(264));
}

TEST(Tokenizer, BosAndEosWhereTheCheckpointAddsThem) {
  VocabSpec spec = make_spec();
  spec.bos = kStart;
  spec.eos = {kThink};
  const auto plain = make(spec);
  EXPECT_THAT(encode(*plain, "a", {.add_bos = true}), ElementsAre('a'));
  spec.add_bos = true;
  spec.add_eos = true;
  const auto framed = make(spec);
  EXPECT_THAT(encode(*framed, "a", {.add_bos = true}), ElementsAre(kStart, 'a', kThink));
  EXPECT_THAT(encode(*framed, "a"), ElementsAre('a'));
  EXPECT_THAT(encode(*framed, "", {.add_bos = true}), ElementsAre(kStart, kThink));
}

TEST(Tokenizer, TextThatCannotBeTokenizedIsRefused) {
  const auto tokenizer = make(make_spec());
  EXPECT_EQ(tokenizer->encode("\xff", {}).status().message(), "the text is not well-formed UTF-8");
  EXPECT_EQ(tokenizer->encode("\xed\xa0\x80", {}).status().code(), StatusCode::kInvalidArgument);
  const std::string long_text(limits::kTokenizeBytesMax + 1, 'x');
  EXPECT_EQ(tokenizer->encode(long_text, {}).status().message(),
            "the text has 16777217 bytes: at most 16777216 are tokenized");
}

TEST(Tokenizer, BytesOfHolesAndOfIdsOutOfRangeAreEmpty) {
  const auto tokenizer = make(make_spec());
  EXPECT_EQ(tokenizer->vocab_size(), 263u);
  EXPECT_EQ(tokenizer->bytes(256), "");
  EXPECT_EQ(tokenizer->bytes(kHello), "hello");
  EXPECT_EQ(tokenizer->bytes(kStart), "<|start|>");
  for (const TokenId id : {-1, 263, INT32_MAX, INT32_MIN}) {
    EXPECT_EQ(tokenizer->bytes(id), "");
    EXPECT_FALSE(tokenizer->is_special(id));
  }
  EXPECT_EQ(tokenizer->decode({kStart, 'a', 256, 99999, 0xe4, 'b', kThink, 0xf0, 0x9f}, true),
            "a\ufffdb<think>\ufffd");
}

TEST(Tokenizer, UnusableVocabulariesAreRefusedByName) {
  VocabSpec spec = make_spec();
  spec.added.push_back(added(-1, "x", true));
  EXPECT_EQ(refusal(spec), "added token id -1: token ids are 0 to 1048575");
  spec.added.back() = added(1 << 20, "x", true);
  EXPECT_EQ(refusal(spec), "added token id 1048576: token ids are 0 to 1048575");
  spec.added.back() = added(270, "", true);
  EXPECT_EQ(refusal(spec), "added token 270: its content is empty");
  spec.added.back() = added(270, "\xff", true);
  EXPECT_EQ(refusal(spec), "added token 270: its content is no well-formed UTF-8");
  spec.added.back() = added(270, "<think>", true);
  EXPECT_EQ(refusal(spec), "added token '<think>' has the ids 262 and 270");
  spec.added.back() = added(kThink, "x", true);
  EXPECT_EQ(refusal(spec), "id 262 is of two added tokens, '<think>' and 'x'");
  spec.added.back() = added('a', "a", true);
  EXPECT_EQ(refusal(spec), "special token 97 is the byte 'a', which ordinary text needs");
  spec.added.pop_back();
  spec.bos = 263;
  EXPECT_EQ(refusal(spec), "BOS id 263: the vocabulary has 263 tokens");
  spec.bos.reset();
  spec.tokens.push_back(std::string(limits::kTokenBytesMax + 1, 'x'));
  spec.added.clear();
  EXPECT_EQ(refusal(spec), "token 261 has 1025 bytes: a token may have 1024");
  spec.tokens.assign(limits::kVocabularyMax + 1, "");
  EXPECT_EQ(refusal(spec), "1048577 tokens: a vocabulary may have 1048576");
}

TEST(Tokenizer, AnEmptyVocabularyEncodesNothing) {
  const auto tokenizer = make(VocabSpec());
  EXPECT_EQ(tokenizer->vocab_size(), 0u);
  EXPECT_THAT(encode(*tokenizer, "anything at all"), ElementsAre());
  EXPECT_THAT(encode(*tokenizer, std::string(1000, 'x')), ElementsAre());
}

TEST(Tokenizer, HostileUnicodeRoundTrips) {
  std::string marks = "a";
  for (int i = 0; i < 50'000; ++i) marks += "\u0301\u0334";
  std::string everything;
  for (uint32_t c = 0; c < 0x110000; c += 3) {
    if (c < 0xd800 || c >= 0xe000) append_utf8(c, everything);
  }
  const std::vector<std::string> texts = {marks,
                                          everything,
                                          std::string(5, '\0') + "x" + std::string(1, '\0'),
                                          "\u202e\u2066abc\u2069\u202c\u200f",
                                          "\U0001f468\u200d\U0001f469\u200d\U0001f467",
                                          "\ufeff\ufffe\uffff\U0010ffff"};
  for (const PreTokenizer kind : {PreTokenizer::kGpt2, PreTokenizer::kSmolLm2, PreTokenizer::kLlama3,
                                  PreTokenizer::kQwen2, PreTokenizer::kDeepSeekV3}) {
    VocabSpec spec = make_spec();
    spec.pre_tokenizer = kind;
    const auto tokenizer = make(std::move(spec));
    for (const std::string& text : texts) {
      const std::vector<TokenId> ids = encode(*tokenizer, text);
      EXPECT_TRUE(tokenizer->decode(ids, false) == text);
      Detokenizer detokenizer(*tokenizer);
      std::string streamed;
      for (const TokenId id : ids) detokenizer.push(id, streamed);
      detokenizer.finish(streamed);
      EXPECT_TRUE(streamed == text);
    }
  }
}

TEST(Tokenizer, TextsOfOneClassOfCharacters) {
  constexpr size_t kBytes = 1 << 20;
  for (const PreTokenizer kind : {PreTokenizer::kGpt2, PreTokenizer::kSmolLm2, PreTokenizer::kLlama3,
                                  PreTokenizer::kQwen2, PreTokenizer::kDeepSeekV3}) {
    VocabSpec spec = make_spec();
    spec.pre_tokenizer = kind;
    const auto tokenizer = make(std::move(spec));
    for (const char c : {'h', ' ', '\n', '1', '-', '\0'}) {
      EXPECT_EQ(encode(*tokenizer, std::string(kBytes, c)).size(), kBytes);
    }
  }
}

TEST(Tokenizer, TheLongestTextIsOnePiece) {
  const auto tokenizer = make(make_spec());
  EXPECT_EQ(encode(*tokenizer, std::string(limits::kTokenizeBytesMax, 'h')).size(),
            limits::kTokenizeBytesMax);
}

TEST(Tokenizer, ThreadsShareOne) {
  const auto tokenizer = make(make_spec());
  const std::string text = std::string(500, 'h') + "hello <|start|>" + std::string(500, 'l');
  const std::vector<TokenId> want = encode(*tokenizer, text, kControl);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (size_t i = 0; i < wrong.size(); ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 200; ++round) wrong[i] += tokenizer->encode(text, kControl).value() != want;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, testing::Each(0));
}

}  // namespace
}  // namespace gantry

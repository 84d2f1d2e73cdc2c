#include "text/detokenizer.h"

#include <gtest/gtest.h>

#include <random>

#include "text/unicode.h"

namespace gantry {
namespace {

std::unique_ptr<Tokenizer> bytes_and_a_control_token() {
  VocabSpec spec;
  for (int byte = 0; byte < 256; ++byte) spec.tokens.emplace_back(1, static_cast<char>(byte));
  AddedToken end;
  end.id = 256;
  end.content = "<|end|>";
  end.special = true;
  spec.added = {end};
  return std::move(Tokenizer::create(std::move(spec))).value();
}

TEST(Detokenizer, ACharacterWaitsForItsLastByte) {
  const auto tokenizer = bytes_and_a_control_token();
  Detokenizer detokenizer(*tokenizer);
  std::string out;
  for (const TokenId id : {0xf0, 0x9f, 0x98}) {
    detokenizer.push(id, out);
    EXPECT_EQ(out, "");
  }
  detokenizer.push(0x80, out);
  EXPECT_EQ(out, "\U0001f600");
}

TEST(Detokenizer, AnIncompleteCharacterAtTheEndIsReplacedOnce) {
  const auto tokenizer = bytes_and_a_control_token();
  Detokenizer detokenizer(*tokenizer);
  std::string out;
  for (const TokenId id : {0xe4, 0xb8}) detokenizer.push(id, out);
  detokenizer.finish(out);
  EXPECT_EQ(out, "\ufffd");
  detokenizer.finish(out);
  EXPECT_EQ(out, "\ufffd");
}

TEST(Detokenizer, ControlTokensGiveTextOnlyWhereAsked) {
  const auto tokenizer = bytes_and_a_control_token();
  std::string skipped;
  Detokenizer skipping(*tokenizer);
  std::string shown;
  Detokenizer showing(*tokenizer, false);
  for (const TokenId id : {static_cast<TokenId>('a'), 256, static_cast<TokenId>('b'), 99999, -5}) {
    skipping.push(id, skipped);
    showing.push(id, shown);
  }
  EXPECT_EQ(skipped, "ab");
  EXPECT_EQ(shown, "a<|end|>b");
}

TEST(Detokenizer, RandomBytesAreWellFormedAtEachStepAndEqualDecode) {
  const auto tokenizer = bytes_and_a_control_token();
  std::mt19937 rng(3);
  // Bytes that make and break sequences: leads of each length, continuations, ASCII.
  const std::vector<TokenId> bytes = {0x41, 0x80, 0xbf, 0xc3, 0xe0, 0xa0, 0xed,
                                      0xe4, 0xf0, 0x90, 0xf4, 0x8f, 0xff};
  for (int round = 0; round < 2000; ++round) {
    std::vector<TokenId> ids(1 + rng() % 40);
    for (TokenId& id : ids) id = bytes[rng() % bytes.size()];
    Detokenizer detokenizer(*tokenizer);
    std::string all;
    for (const TokenId id : ids) {
      std::string chunk;
      detokenizer.push(id, chunk);
      ASSERT_TRUE(is_valid_utf8(chunk));
      all += chunk;
    }
    detokenizer.finish(all);
    ASSERT_EQ(all, tokenizer->decode(ids, false));
  }
}

}  // namespace
}  // namespace gantry

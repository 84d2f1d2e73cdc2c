#include "text/bpe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <unordered_map>
#include <utility>

namespace gantry {
namespace {

// The 256 bytes, then what `merges` makes, in their order.
VocabSpec make_spec(const std::vector<std::pair<std::string, std::string>>& merges) {
  VocabSpec spec;
  for (int byte = 0; byte < 256; ++byte) spec.tokens.emplace_back(1, static_cast<char>(byte));
  for (const auto& merge : merges) {
    spec.merges.push_back(merge);
    const std::string product = merge.first + merge.second;
    if (std::find(spec.tokens.begin(), spec.tokens.end(), product) == spec.tokens.end())
      spec.tokens.push_back(product);
  }
  return spec;
}

// The definition: merge the leftmost pair of the lowest rank until none is left.
std::vector<TokenId> merge_by_definition(const VocabSpec& spec, const std::string& text) {
  std::unordered_map<std::string, TokenId> ids;
  for (size_t id = 0; id < spec.tokens.size(); ++id) ids[spec.tokens[id]] = static_cast<TokenId>(id);
  std::vector<std::string> symbols;
  for (const char c : text) {
    if (ids.contains(std::string(1, c))) symbols.emplace_back(1, c);
  }
  while (true) {
    size_t best = symbols.size();
    size_t best_rank = spec.merges.size();
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      for (size_t rank = 0; rank < best_rank; ++rank) {
        if (spec.merges[rank].first == symbols[i] && spec.merges[rank].second == symbols[i + 1]) {
          best = i;
          best_rank = rank;
        }
      }
    }
    if (best == symbols.size()) break;
    symbols[best] += symbols[best + 1];
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
  std::vector<TokenId> out;
  for (const std::string& symbol : symbols) out.push_back(ids.at(symbol));
  return out;
}

Bpe make_bpe(const VocabSpec& spec) {
  Result<Bpe> bpe = Bpe::create(spec, std::vector<bool>(spec.tokens.size(), false));
  EXPECT_TRUE(bpe.ok()) << bpe.status().message();
  return std::move(bpe).value();
}

std::vector<TokenId> encode(const Bpe& bpe, const std::string& text) {
  BpeScratch scratch;
  std::vector<TokenId> out;
  bpe.encode(text, scratch, out);
  return out;
}

std::string random_text(std::mt19937& rng, size_t length, int letters) {
  std::string text(length, 'a');
  for (char& c : text) c = static_cast<char>('a' + static_cast<int>(rng() % static_cast<unsigned>(letters)));
  return text;
}

// Any token with any other, so that many tokens have several derivations, and in any order of ranks.
VocabSpec random_spec(std::mt19937& rng, int letters) {
  std::vector<std::string> tokens;
  for (int i = 0; i < letters; ++i) tokens.emplace_back(1, static_cast<char>('a' + i));
  std::vector<std::pair<std::string, std::string>> merges;
  const size_t count = 1 + rng() % 40;
  while (merges.size() < count) {
    std::pair<std::string, std::string> merge = {tokens[rng() % tokens.size()],
                                                 tokens[rng() % tokens.size()]};
    if (merge.first.size() + merge.second.size() > 12) continue;
    if (std::find(merges.begin(), merges.end(), merge) != merges.end()) {
      if (rng() % 4 == 0) break;
      continue;
    }
    tokens.push_back(merge.first + merge.second);
    merges.push_back(std::move(merge));
  }
  if (rng() % 2 == 0) std::shuffle(merges.begin(), merges.end(), rng);
  return make_spec(merges);
}

TEST(Bpe, LowestRankFirstThenLeftmost) {
  const VocabSpec spec = make_spec({{"b", "c"}, {"a", "b"}, {"a", "a"}});
  const Bpe bpe = make_bpe(spec);
  EXPECT_EQ(encode(bpe, "abc"), (std::vector<TokenId>{'a', 256}));
  EXPECT_EQ(encode(bpe, "aaa"), (std::vector<TokenId>{258, 'a'}));
}

TEST(Bpe, EveryWayOfMergingAgreesWithTheDefinition) {
  std::mt19937 rng(11);
  for (int round = 0; round < 400; ++round) {
    const int letters = 1 + static_cast<int>(rng() % 4);
    const VocabSpec spec = random_spec(rng, letters);
    const Bpe bpe = make_bpe(spec);
    for (const size_t length : {1 + rng() % 10, 20 + rng() % 44, 65 + rng() % 60, 129 + rng() % 200}) {
      const std::string text = random_text(rng, length, letters);
      const std::vector<TokenId> want = merge_by_definition(spec, text);
      ASSERT_EQ(encode(bpe, text), want) << text;
      MergeScratch scratch;
      std::vector<TokenId> merged;
      bpe.merges().merge(text, scratch, merged);
      ASSERT_EQ(merged, want) << text;
    }
  }
}

TEST(Bpe, LongPiecesAgreeWithMerging) {
  std::mt19937 rng(12);
  for (int round = 0; round < 40; ++round) {
    const int letters = 1 + static_cast<int>(rng() % 5);
    const VocabSpec spec = random_spec(rng, letters);
    const Bpe bpe = make_bpe(spec);
    const std::string text = random_text(rng, 20'000, letters);
    MergeScratch scratch;
    std::vector<TokenId> merged;
    bpe.merges().merge(text, scratch, merged);
    ASSERT_EQ(encode(bpe, text), merged);
  }
}

TEST(Bpe, BytesWithoutATokenAreDroppedOrUnknown) {
  VocabSpec spec;
  spec.tokens = {"a", "b", "ab", "?"};
  spec.merges = {{"a", "b"}};
  const Bpe dropping = make_bpe(spec);
  EXPECT_EQ(encode(dropping, "axb"), (std::vector<TokenId>{2})) << "what is around a dropped byte may merge";
  spec.unk = 3;
  VocabSpec with_unknown = spec;
  const Bpe unknown = make_bpe(with_unknown);
  EXPECT_EQ(encode(unknown, "axb"), (std::vector<TokenId>{0, 3, 1}));
  std::string text;
  std::vector<TokenId> dropped;
  std::vector<TokenId> replaced;
  for (int i = 0; i < 100; ++i) {
    text += "axb";
    dropped.push_back(2);
    replaced.insert(replaced.end(), {0, 3, 1});
  }
  EXPECT_EQ(encode(dropping, text), dropped);
  EXPECT_EQ(encode(unknown, text), replaced);
}

TEST(Bpe, IgnoreMergesTakesAPieceThatIsAToken) {
  VocabSpec spec = make_spec({{"a", "b"}});
  spec.tokens.push_back("xyz");
  const Bpe merging = make_bpe(spec);
  EXPECT_EQ(encode(merging, "xyz"), (std::vector<TokenId>{'x', 'y', 'z'}));
  spec.ignore_merges = true;
  const Bpe whole = make_bpe(spec);
  EXPECT_EQ(encode(whole, "xyz"), (std::vector<TokenId>{257}));
  EXPECT_EQ(encode(whole, "xyzz"), (std::vector<TokenId>{'x', 'y', 'z', 'z'}));
}

TEST(Bpe, MergesThatCannotBeUsedAreRefusedByName) {
  VocabSpec spec = make_spec({{"a", "b"}});
  spec.merges.push_back({"a", "q?"});
  const Result<Bpe> part = Bpe::create(spec, std::vector<bool>(spec.tokens.size(), false));
  ASSERT_FALSE(part.ok());
  EXPECT_EQ(part.status().message(), "merge 1 ('a' with 'q?'): 'q?' is no token of the vocabulary");
  spec.merges.back() = {"a", "\n"};
  const Result<Bpe> product = Bpe::create(spec, std::vector<bool>(spec.tokens.size(), false));
  ASSERT_FALSE(product.ok());
  EXPECT_EQ(product.status().message(), "merge 1 ('a' with '\\x0a'): 'a\\x0a' is no token of the vocabulary");
  spec.merges.pop_back();
  spec.tokens.push_back("ab");
  const Result<Bpe> twice = Bpe::create(spec, std::vector<bool>(spec.tokens.size(), false));
  ASSERT_FALSE(twice.ok());
  EXPECT_EQ(twice.status().message(), "tokens 256 and 257 are both 'ab': each token needs bytes of its own");
  spec.tokens.pop_back();
  spec.merges.push_back({"", "a"});
  EXPECT_FALSE(Bpe::create(spec, std::vector<bool>(spec.tokens.size(), false)).ok());
}

// A vocabulary as training makes it: long tokens of one letter, digrams, and tokens that greedy choice gets
// wrong.
VocabSpec hostile_spec() {
  std::vector<std::pair<std::string, std::string>> merges;
  for (const char c : std::string("a -\n=")) {
    for (std::string run(1, c); run.size() <= 64; run += run) merges.emplace_back(run, run);
  }
  for (char c = 'a'; c <= 'z'; ++c) {
    for (char d = 'a'; d <= 'z'; ++d) {
      if (c != 'a' || d != 'a') merges.emplace_back(std::string(1, c), std::string(1, d));
    }
  }
  merges.emplace_back("ba", "aa");
  merges.emplace_back("ab", "aaaa");
  return make_spec(merges);
}

struct Work {
  uint64_t steps;
  std::vector<TokenId> ids;
};

Work measure(const Bpe& bpe, const std::string& text) {
  BpeScratch scratch;
  Work work{0, {}};
  bpe.encode(text, scratch, work.ids);
  work.steps = scratch.steps + scratch.merges.steps;
  return work;
}

TEST(Bpe, WorkIsLinearOnPiecesOfOneClass) {
  const VocabSpec spec = hostile_spec();
  const Bpe bpe = make_bpe(spec);
  std::mt19937 rng(13);
  constexpr size_t kBytes = 1 << 20;
  std::vector<std::string> texts = {std::string(2 * kBytes, 'a'), std::string(2 * kBytes, ' '),
                                    random_text(rng, 2 * kBytes, 26), random_text(rng, 2 * kBytes, 2), ""};
  while (texts.back().size() < 2 * kBytes) texts.back() += std::string(rng() % 200, 'a') + "b";
  texts.back().resize(2 * kBytes);
  for (const std::string& text : texts) {
    const Work half = measure(bpe, text.substr(0, kBytes));
    const Work whole = measure(bpe, text);
    EXPECT_LE(static_cast<double>(whole.steps), 2.05 * static_cast<double>(half.steps)) << text.substr(0, 40);
    EXPECT_LE(whole.steps, 8 * text.size()) << text.substr(0, 40);
    std::string joined;
    for (const TokenId id : whole.ids) joined += spec.tokens[static_cast<size_t>(id)];
    EXPECT_TRUE(joined == text);
  }
}

}  // namespace
}  // namespace gantry

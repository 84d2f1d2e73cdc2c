// The ids that Hugging Face `tokenizers` gives for a few hundred texts, with parts of five published
// tokenizers (tests/parity/tokenizers/make_golden.py writes both; compare.py there compares whole ones over
// many megabytes).
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>

#include "text/detokenizer.h"
#include "text/nfc.h"
#include "text/tokenizer.h"
#include "text/tokenizer_json.h"
#include "text/unicode.h"

namespace gantry {
namespace {

nlohmann::json read_json(const std::string& name) {
  const char* const source = std::getenv("GANTRY_SOURCE_DIR");
  const std::string path =
      std::string(source == nullptr ? "." : source) + "/tests/parity/tokenizers/golden/" + name;
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  EXPECT_FALSE(json.is_discarded()) << path;
  return json;
}

class Golden : public testing::TestWithParam<const char*> {};

TEST_P(Golden, IdsAreThoseOfHuggingFace) {
  const nlohmann::json golden = read_json("golden.json");
  Result<VocabSpec> spec = vocab_from_tokenizer_json(read_json(std::string(GetParam()) + ".json"), nullptr);
  ASSERT_TRUE(spec.ok()) << spec.status().message();
  const auto tokenizer = Tokenizer::create(std::move(spec).value());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  const nlohmann::json& texts = golden["texts"];
  ASSERT_GE(texts.size(), 300u);
  for (const auto& [mode, specials] :
       {std::pair("control", Tokenizer::Specials::kControl), std::pair("text", Tokenizer::Specials::kText)}) {
    const nlohmann::json& expected = golden["ids"][GetParam()][mode];
    ASSERT_EQ(expected.size(), texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      const auto text = texts[i].get<std::string>();
      const Result<std::vector<TokenId>> ids = (*tokenizer)->encode(text, {.specials = specials});
      ASSERT_TRUE(ids.ok()) << ids.status().message();
      const nlohmann::json& want =
          expected[i].is_null() ? golden["ids"][GetParam()]["control"][i] : expected[i];
      EXPECT_EQ(*ids, want.get<std::vector<TokenId>>()) << mode << ", text " << i << ": " << text;
    }
  }
}

TEST_P(Golden, DecodingGivesTheTextBack) {
  const nlohmann::json golden = read_json("golden.json");
  Result<VocabSpec> spec = vocab_from_tokenizer_json(read_json(std::string(GetParam()) + ".json"), nullptr);
  ASSERT_TRUE(spec.ok()) << spec.status().message();
  const auto tokenizer = Tokenizer::create(std::move(spec).value());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  // SmolLM2 has no token for some bytes, which are dropped there.
  const std::vector<std::string>& tokens = (*tokenizer)->spec().tokens;
  const std::set<std::string> known(tokens.begin(), tokens.end());
  for (const nlohmann::json& json : golden["texts"]) {
    const auto text = json.get<std::string>();
    const std::vector<TokenId> ids = (*tokenizer)->encode(text, {}).value();
    std::string encoded = (*tokenizer)->spec().normalize_nfc ? to_nfc(text) : text;
    std::erase_if(encoded, [&](char c) { return !known.contains(std::string(1, c)); });
    std::string want;
    ASSERT_EQ(append_well_formed(encoded, want), 0u);
    EXPECT_EQ((*tokenizer)->decode(ids, false), want);
    Detokenizer detokenizer(**tokenizer, false);
    std::string streamed;
    for (const TokenId id : ids) detokenizer.push(id, streamed);
    detokenizer.finish(streamed);
    EXPECT_EQ(streamed, want);
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, Golden,
                         testing::Values("gpt2", "smollm2", "llama3", "qwen2", "deepseek-v3"),
                         [](const auto& param_info) {
                           std::string name = param_info.param;
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace gantry

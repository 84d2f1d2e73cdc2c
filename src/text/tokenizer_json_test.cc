#include "text/tokenizer_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "text/tokenizer.h"

namespace gantry {
namespace {

using Json = nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

Json byte_level(bool use_regex = true) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", use_regex}};
}

Json split(const std::string& expression) {
  return {
      {"type", "Split"}, {"pattern", {{"Regex", expression}}}, {"behavior", "Isolated"}, {"invert", false}};
}

Json sequence(const char* key, Json parts) { return {{"type", "Sequence"}, {key, std::move(parts)}}; }

// "a", "b", " " and "ab", with one control token and a pipeline like GPT-2's.
Json make_tokenizer() {
  return {{"added_tokens", {{{"id", 4}, {"content", "<|end|>"}, {"special", true}}}},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level()},
          {"post_processor", nullptr},
          {"decoder", byte_level()},
          {"model",
           {{"type", "BPE"},
            {"vocab", {{"a", 0}, {"b", 1}, {"\u0120", 2}, {"ab", 3}, {"<|end|>", 4}}},
            {"merges", {"a b"}}}}};
}

VocabSpec read(const Json& tokenizer, const Json& config = nullptr) {
  Result<VocabSpec> spec = vocab_from_tokenizer_json(tokenizer, config);
  EXPECT_TRUE(spec.ok()) << spec.status().message();
  return spec.ok() ? std::move(spec).value() : VocabSpec();
}

Status refusal(const Json& tokenizer, const Json& config = nullptr) {
  return vocab_from_tokenizer_json(tokenizer, config).status();
}

TEST(TokenizerJson, TokensAndMergesAreRawBytes) {
  Json json = make_tokenizer();
  json["model"]["merges"].push_back({"\u0120", "a"});
  json["model"]["vocab"]["\u0120a"] = 6;
  const VocabSpec spec = read(json);
  EXPECT_THAT(spec.tokens, ElementsAre("a", "b", " ", "ab", "<|end|>", "", " a"));
  EXPECT_THAT(spec.merges, ElementsAre(Pair("a", "b"), Pair(" ", "a")));
  ASSERT_EQ(spec.added.size(), 1u);
  EXPECT_TRUE(spec.added[0].special);
  EXPECT_EQ(spec.pre_tokenizer, PreTokenizer::kGpt2);
  EXPECT_FALSE(spec.normalize_nfc);
  EXPECT_FALSE(spec.ignore_merges);
}

TEST(TokenizerJson, PreTokenizersAreKnownByTheirStructure) {
  const std::string llama3 =
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
      "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  const std::string qwen2 =
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
      "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  const std::string deepseek =
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
      " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";
  Json removed = split(qwen2);
  removed["behavior"] = "Removed";
  removed["invert"] = true;
  const std::vector<std::pair<Json, PreTokenizer>> cases = {
      {sequence("pretokenizers", {{{"type", "Digits"}, {"individual_digits", true}}, byte_level()}),
       PreTokenizer::kSmolLm2},
      {sequence("pretokenizers", {split(llama3), byte_level(false)}), PreTokenizer::kLlama3},
      {sequence("pretokenizers", {split(qwen2), byte_level(false)}), PreTokenizer::kQwen2},
      {sequence("pretokenizers", {removed, byte_level(false)}), PreTokenizer::kQwen2},
      {sequence("pretokenizers", {split("\\p{N}{1,3}"), split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
                                  sequence("pretokenizers", {split(deepseek), byte_level(false)})}),
       PreTokenizer::kDeepSeekV3},
  };
  for (const auto& [pre_tokenizer, kind] : cases) {
    Json json = make_tokenizer();
    json["pre_tokenizer"] = pre_tokenizer;
    EXPECT_EQ(read(json).pre_tokenizer, kind) << to_string(kind);
  }
}

TEST(TokenizerJson, WhatIsNotSupportedIsRefusedByName) {
  struct Case {
    const char* pointer;
    Json value;
    const char* message;
  };
  const std::vector<Case> cases = {
      {"/model/type", "Unigram", "\"Unigram\""},
      {"/model/byte_fallback", true, "byte_fallback"},
      {"/model/end_of_word_suffix", "</w>", "end_of_word_suffix"},
      {"/model/dropout", 0.1, "dropout"},
      {"/normalizer", {{"type", "NFKC"}}, "normalizer NFKC is not supported: NFC is, or none"},
      {"/pre_tokenizer", {{"type", "Metaspace"}}, "Metaspace"},
      {"/pre_tokenizer", nullptr, "without the ByteLevel pre-tokenizer"},
      {"/pre_tokenizer", sequence("pretokenizers", {split("\\w+"), byte_level(false)}), "\\\\w+"},
      {"/pre_tokenizer", sequence("pretokenizers", {{{"type", "Digits"}}, byte_level()}), "Digits"},
      {"/pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", true}}, "add_prefix_space"},
      {"/decoder", {{"type", "WordPiece"}}, "decoder WordPiece is not supported: ByteLevel is"},
      {"/post_processor", {{"type", "RobertaProcessing"}}, "RobertaProcessing"},
      {"/added_tokens/0/single_word", true, "single_word"},
  };
  for (const Case& c : cases) {
    Json json = make_tokenizer();
    json[Json::json_pointer(c.pointer)] = c.value;
    const Status status = refusal(json);
    EXPECT_EQ(status.code(), StatusCode::kUnimplemented) << c.pointer;
    EXPECT_THAT(status.message(), HasSubstr(c.message));
  }
}

TEST(TokenizerJson, MalformedFilesAreRefused) {
  struct Case {
    const char* pointer;
    Json value;
    const char* message;
  };
  const std::vector<Case> cases = {
      {"/model", 5, "tokenizer.json has no \"model\""},
      {"/model/vocab", Json::array(), "tokenizer.json: model.vocab is no map of tokens to ids"},
      {"/model/vocab/a", -1, "tokenizer.json: token \"a\" has the id -1; ids are 0 to 1048575"},
      {"/model/vocab/a", 1e30, "tokenizer.json: token \"a\" has the id 1e+30; ids are 0 to 1048575"},
      {"/model/vocab/a", 1, "tokenizer.json: two tokens have the id 1"},
      {"/model/merges", {{"a", 1}}, "tokenizer.json: model.merges is no list"},
      {"/model/merges/0", "a b c", "tokenizer.json: merge 0 is \"a b c\", not two tokens"},
      {"/model/merges/0", {"a", 1}, "tokenizer.json: merge 0 is [\"a\",1], not two tokens"},
      {"/model/unk_token", "<unk>", "tokenizer.json: unk_token \"<unk>\" is no token"},
      {"/added_tokens", 1, "tokenizer.json: added_tokens is no list"},
      {"/added_tokens/0/content", nullptr, "the added token"},
      {"/pre_tokenizer", {{"type", "Sequence"}}, "tokenizer.json: a Sequence has no list of pretokenizers"},
  };
  for (const Case& c : cases) {
    Json json = make_tokenizer();
    json[Json::json_pointer(c.pointer)] = c.value;
    const Status status = refusal(json);
    EXPECT_EQ(status.code(), StatusCode::kDataLoss) << c.pointer;
    EXPECT_THAT(status.message(), HasSubstr(c.message));
  }
  EXPECT_EQ(refusal(Json::array()).message(), "tokenizer.json is no JSON object");
  EXPECT_EQ(refusal(nullptr).message(), "tokenizer.json is no JSON object");
}

TEST(TokenizerJson, TheConfigurationNamesTokensAndTemplates) {
  const Json config = {
      {"bos_token", {{"__type", "AddedToken"}, {"content", "<|end|>"}}},
      {"eos_token", "ab"},
      {"pad_token", nullptr},
      {"add_bos_token", true},
      {"added_tokens_decoder", {{"7", {{"content", "<tool>"}, {"special", false}, {"rstrip", true}}}}},
      {"chat_template", {{{"name", "default"}, {"template", "D"}}, {{"name", "rag"}, {"template", "R"}}}},
  };
  const VocabSpec spec = read(make_tokenizer(), config);
  EXPECT_EQ(spec.bos, 4);
  EXPECT_THAT(spec.eos, ElementsAre(3));
  EXPECT_FALSE(spec.pad.has_value());
  EXPECT_TRUE(spec.add_bos);
  EXPECT_FALSE(spec.add_eos);
  EXPECT_EQ(spec.chat_template, "D");
  EXPECT_THAT(spec.named_templates, ElementsAre(Pair("rag", "R")));
  ASSERT_EQ(spec.added.size(), 3u);
  EXPECT_EQ(spec.added[1].content, "<tool>");
  EXPECT_TRUE(spec.added[1].rstrip);
  EXPECT_EQ(spec.added[2].content, "ab") << "a token that is named as EOS is special";
  EXPECT_TRUE(spec.added[2].special);
  EXPECT_EQ(read(make_tokenizer(), {{"chat_template", "one"}}).chat_template, "one");
  EXPECT_EQ(refusal(make_tokenizer(), {{"bos_token", "<s>"}}).message(),
            "tokenizer_config.json: bos_token \"<s>\" is no token");
  EXPECT_EQ(refusal(make_tokenizer(), {{"chat_template", {{{"name", "x"}}}}}).code(), StatusCode::kDataLoss);
}

TEST(TokenizerJson, ThePostProcessorAddsBosAndEos) {
  const Json bos = {{"SpecialToken", {{"id", "<|end|>"}, {"type_id", 0}}}};
  const Json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  Json json = make_tokenizer();
  json["post_processor"] =
      sequence("processors", {byte_level(), {{"type", "TemplateProcessing"}, {"single", {bos, text}}}});
  VocabSpec spec = read(json);
  EXPECT_TRUE(spec.add_bos);
  EXPECT_EQ(spec.bos, 4);
  EXPECT_FALSE(spec.add_eos);
  EXPECT_FALSE(read(json, {{"add_bos_token", false}}).add_bos) << "the configuration has the last word";
  json["post_processor"] = {{"type", "TemplateProcessing"}, {"single", {text, bos}}};
  spec = read(json);
  EXPECT_TRUE(spec.add_eos);
  EXPECT_THAT(spec.eos, ElementsAre(4));
  json["post_processor"]["single"] = {bos, bos, text};
  EXPECT_EQ(refusal(json).code(), StatusCode::kUnimplemented);
  json["post_processor"]["single"] = {{{"SpecialToken", {{"id", "<none>"}}}}, text};
  EXPECT_EQ(refusal(json).message(), "tokenizer.json: the post-processor's \"<none>\" is no token");
}

TEST(TokenizerJson, WhatIsReadMakesATokenizer) {
  const auto tokenizer = Tokenizer::create(read(make_tokenizer()));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  EXPECT_THAT((*tokenizer)->encode("ab<|end|> ba", {.specials = Tokenizer::Specials::kControl}).value(),
              ElementsAre(3, 4, 2, 1, 0));
}

TEST(TokenizerJson, GgufNamesOfPreTokenizers) {
  EXPECT_EQ(pre_tokenizer_from_gguf("smollm"), PreTokenizer::kSmolLm2);
  EXPECT_EQ(pre_tokenizer_from_gguf("llama-bpe"), PreTokenizer::kLlama3);
  EXPECT_EQ(pre_tokenizer_from_gguf("gpt-2"), PreTokenizer::kGpt2);
  EXPECT_EQ(pre_tokenizer_from_gguf("qwen2"), PreTokenizer::kQwen2);
  EXPECT_EQ(pre_tokenizer_from_gguf("deepseek-v3"), PreTokenizer::kDeepSeekV3);
  EXPECT_EQ(pre_tokenizer_from_gguf("tekken"), std::nullopt);
}

}  // namespace
}  // namespace gantry

#include "formats/gguf_vocab.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/test_files.h"

namespace gantry {
namespace {

using ::testing::ElementsAre;
using testing::GgufWriter;
using ::testing::HasSubstr;
using ::testing::Pair;

// The writer's metadata over that of a small tokenizer; a key given twice would be refused, so each test
// leaves out what it replaces.
GgufWriter tokenizer(const std::vector<std::string>& without = {}) {
  GgufWriter writer;
  const auto wanted = [&](const char* key) {
    return std::find(without.begin(), without.end(), key) == without.end();
  };
  if (wanted("model")) writer.string("tokenizer.ggml.model", "gpt2");
  if (wanted("pre")) writer.string("tokenizer.ggml.pre", "smollm");
  if (wanted("tokens")) {
    writer.strings("tokenizer.ggml.tokens", {"a", "Ġ", "Ġa", "<|end|>", "<user>", "<pad>", "<|im_end|>"});
  }
  if (wanted("token_type")) writer.i32s("tokenizer.ggml.token_type", {1, 1, 1, 3, 4, 5, 3});
  if (wanted("merges")) writer.strings("tokenizer.ggml.merges", {"Ġ a"});
  return writer;
}

Result<std::optional<VocabSpec>> read(const GgufWriter& writer) {
  const std::string file = writer.build();
  const auto gguf = parse_gguf(std::as_bytes(std::span(file)), file.size(), "m.gguf");
  if (!gguf.ok()) return gguf.status();
  return vocab_from_gguf(*gguf, "m.gguf");
}

void expect_refused(const GgufWriter& writer, StatusCode code, const std::string& part) {
  const auto vocab = read(writer);
  ASSERT_FALSE(vocab.ok()) << "accepted, expected: " << part;
  EXPECT_EQ(vocab.status().code(), code);
  EXPECT_TRUE(vocab.status().message().starts_with("m.gguf: ")) << vocab.status().message();
  EXPECT_THAT(vocab.status().message(), HasSubstr(part));
}

TEST(GgufVocab, ReadsTokensTypesAndMerges) {
  const auto vocab = read(tokenizer()
                              .u32("tokenizer.ggml.bos_token_id", 0)
                              .u32("tokenizer.ggml.eos_token_id", 3)
                              .u32("tokenizer.ggml.padding_token_id", 5)
                              .u32("tokenizer.ggml.unknown_token_id", 1)
                              .boolean("tokenizer.ggml.add_bos_token", true));
  ASSERT_TRUE(vocab.ok()) << vocab.status().message();
  const VocabSpec& spec = **vocab;
  EXPECT_EQ(spec.pre_tokenizer, PreTokenizer::kSmolLm2);
  // Raw bytes; the unused token is a hole.
  EXPECT_THAT(spec.tokens, ElementsAre("a", " ", " a", "<|end|>", "<user>", "", "<|im_end|>"));
  EXPECT_THAT(spec.merges, ElementsAre(Pair(" ", "a")));
  ASSERT_EQ(spec.added.size(), 3u);
  EXPECT_EQ(spec.added[0].id, 3);
  EXPECT_TRUE(spec.added[0].special);
  EXPECT_EQ(spec.added[1].content, "<user>");
  EXPECT_FALSE(spec.added[1].special);
  EXPECT_EQ(spec.bos, 0);
  EXPECT_EQ(spec.pad, 5);
  EXPECT_EQ(spec.unk, 1);
  EXPECT_TRUE(spec.add_bos);
  EXPECT_FALSE(spec.add_eos);
  EXPECT_FALSE(spec.ignore_merges);
  EXPECT_FALSE(spec.normalize_nfc);
}

TEST(GgufVocab, EndTokensAreThoseNamedAndThoseKnown) {
  EXPECT_THAT((*read(tokenizer()))->eos, ElementsAre(6));  // a control token <|im_end|> ends a turn anywhere
  EXPECT_THAT((*read(tokenizer()
                         .u32("tokenizer.ggml.eos_token_id", 3)
                         .u32("tokenizer.ggml.eot_token_id", 6)
                         .u32("tokenizer.ggml.eom_token_id", 4)))
                  ->eos,
              ElementsAre(3, 6, 4));
}

TEST(GgufVocab, PreTokenizersBringWhatGgufDoesNotSay) {
  const auto llama3 = read(tokenizer({"pre"}).string("tokenizer.ggml.pre", "llama-bpe"));
  EXPECT_TRUE((*llama3)->ignore_merges);
  EXPECT_TRUE((*llama3)->add_bos);
  const auto without_bos = read(tokenizer({"pre"})
                                    .string("tokenizer.ggml.pre", "llama-bpe")
                                    .boolean("tokenizer.ggml.add_bos_token", false));
  EXPECT_FALSE((*without_bos)->add_bos);
  EXPECT_TRUE((*read(tokenizer({"pre"}).string("tokenizer.ggml.pre", "qwen2")))->normalize_nfc);
  EXPECT_FALSE((*read(tokenizer({"pre"}).string("tokenizer.ggml.pre", "deepseek-r1-qwen")))->normalize_nfc);
}

TEST(GgufVocab, ReadsTemplates) {
  const auto vocab = read(tokenizer()
                              .strings("tokenizer.chat_templates", {"tool_use"})
                              .string("tokenizer.chat_template", "{{ x }}")
                              .string("tokenizer.chat_template.tool_use", "{{ y }}"));
  ASSERT_TRUE(vocab.ok()) << vocab.status().message();
  EXPECT_EQ((*vocab)->chat_template, "{{ x }}");
  EXPECT_THAT((*vocab)->named_templates, ElementsAre(Pair("tool_use", "{{ y }}")));
  expect_refused(tokenizer().u8("tokenizer.chat_template", 1), StatusCode::kDataLoss,
                 "tokenizer.chat_template is not a string of at most 1048576 bytes");
  expect_refused(tokenizer().string("tokenizer.chat_template", std::string((1 << 20) + 1, 'x')),
                 StatusCode::kDataLoss, "at most 1048576 bytes");
}

TEST(GgufVocab, AFileMayHaveNone) {
  EXPECT_EQ(*read(GgufWriter()), std::nullopt);
  EXPECT_EQ(*read(GgufWriter().string("tokenizer.ggml.model", "none")), std::nullopt);
}

TEST(GgufVocab, RefusesOtherModelsByName) {
  expect_refused(GgufWriter().string("tokenizer.ggml.model", "llama"), StatusCode::kUnimplemented,
                 "tokenizer.ggml.model \"llama\" is not supported; supported: \"gpt2\"");
  expect_refused(GgufWriter().u8("tokenizer.ggml.model", 1), StatusCode::kDataLoss, "is not a string");
  expect_refused(tokenizer({"pre"}), StatusCode::kUnimplemented,
                 "tokenizer.ggml.pre (missing) is not supported");
  expect_refused(tokenizer({"pre"}).string("tokenizer.ggml.pre", "tekken"), StatusCode::kUnimplemented,
                 "tokenizer.ggml.pre \"tekken\" is not supported; supported: gpt-2, ");
}

TEST(GgufVocab, RefusesMalformedTokens) {
  const auto lost = StatusCode::kDataLoss;
  expect_refused(tokenizer({"tokens"}), lost, "tokenizer.ggml.tokens is not an array of strings");
  expect_refused(tokenizer({"tokens"}).strings("tokenizer.ggml.tokens", {}), lost,
                 "is not an array of strings");
  expect_refused(tokenizer({"token_type"}).i32s("tokenizer.ggml.token_type", {1}), lost,
                 "is not an array of 7 integers");
  expect_refused(tokenizer({"token_type"}).string("tokenizer.ggml.token_type", "x"), lost,
                 "is not an array of 7 integers");
  expect_refused(tokenizer({"token_type"}).i32s("tokenizer.ggml.token_type", {1, 1, 6, 1, 1, 1, 1}), lost,
                 "6 of token 2 has no place in byte-level BPE");
  expect_refused(tokenizer({"token_type"}).i32s("tokenizer.ggml.token_type", {1, 1, 1, 1, -1, 1, 1}), lost,
                 "-1 of token 4");
  EXPECT_TRUE(read(tokenizer({"token_type"})).ok());  // all are normal then
}

TEST(GgufVocab, RefusesMalformedMerges) {
  const auto lost = StatusCode::kDataLoss;
  expect_refused(tokenizer({"merges"}), lost, "tokenizer.ggml.merges is not an array of strings");
  for (const char* merge : {"ab", " a", "a ", "a b c", "", " "}) {
    expect_refused(tokenizer({"merges"}).strings("tokenizer.ggml.merges", {"Ġ a", merge}), lost,
                   "entry 1 is \"" + std::string(merge) + "\", not two parts");
  }
}

TEST(GgufVocab, RefusesIdsOutOfRange) {
  for (const char* key : {"bos", "eos", "eot", "eom", "padding", "unknown"}) {
    const std::string name = std::string("tokenizer.ggml.") + key + "_token_id";
    expect_refused(tokenizer().u32(name, 7), StatusCode::kDataLoss,
                   name + " is not the id of one of the 7 tokens");
    expect_refused(tokenizer().i32(name, -1), StatusCode::kDataLoss, "is not the id");
    expect_refused(tokenizer().string(name, "1"), StatusCode::kDataLoss, "is not the id");
  }
}

}  // namespace
}  // namespace gantry

#include "formats/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/test_files.h"

namespace gantry {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class Inspect : public ::testing::Test {
 protected:
  Inspect() {
    folder.write("config.json", R"({"hidden_size":8,"name":"caf\u00e9\n"})");
    folder.write("model.safetensors", testing::SafetensorsWriter()
                                          .tensor("w", "F32", {2, 3}, std::string(24, '\1'))
                                          .tensor("bad\nname", "BF16", {3}, std::string(6, '\1'))
                                          .tensor("v", "BF16", {4}, std::string(8, '\1'))
                                          .build());
    auto opened = open_weights(folder.path());
    EXPECT_TRUE(opened.ok()) << opened.status().message();
    source = std::move(*opened);
  }
  testing::TempFolder folder;
  std::unique_ptr<WeightSource> source;
};

TEST_F(Inspect, TextNamesEachTensorAndTheTotals) {
  const std::string text = describe(*source);
  EXPECT_THAT(text, HasSubstr("  hidden_size  8\n"));
  EXPECT_THAT(text, HasSubstr("  name         \"caf\\u00e9\\n\"\n"));
  EXPECT_THAT(text, HasSubstr("  none: token ids are served\n"));
  EXPECT_THAT(text, HasSubstr("  w              F32      [2, 3]                          24\n"));
  EXPECT_THAT(text, HasSubstr("  \"bad\\x0aname\"  BF16     [3]                              6\n"));
  EXPECT_THAT(
      text,
      HasSubstr("  BF16           2 tensors                7 parameters               14 bytes  14 B\n"));
  EXPECT_THAT(
      text,
      HasSubstr("  all            3 tensors               13 parameters               38 bytes  38 B\n"));
}

TEST_F(Inspect, JsonHoldsTheSame) {
  const json value = describe_json(*source);
  EXPECT_EQ(value["path"], folder.path());
  EXPECT_EQ(value["config"]["hidden_size"], 8);
  EXPECT_EQ(value["tokenizer"], nullptr);
  ASSERT_EQ(value["tensors"].size(), 3u);
  EXPECT_EQ(value["tensors"][2], (json{{"name", "w"},
                                       {"dtype", "F32"},
                                       {"shape", {2, 3}},
                                       {"bytes", 24},
                                       {"file", folder.file("model.safetensors")}}));
  EXPECT_EQ(value["totals"]["bytes"], 38);
  EXPECT_EQ(value["totals"]["by_dtype"]["BF16"], (json{{"tensors", 2}, {"parameters", 7}, {"bytes", 14}}));
}

TEST(InspectGguf, ShowsTheTokenizer) {
  testing::TempFolder folder;
  testing::GgufWriter writer = testing::small_llama_metadata();
  writer.string("tokenizer.ggml.model", "gpt2")
      .string("tokenizer.ggml.pre", "smollm")
      .strings("tokenizer.ggml.tokens", {"a", "b", "ab", "c"})
      .strings("tokenizer.ggml.merges", {"a b"})
      .u32("tokenizer.ggml.eos_token_id", 3)
      // A name that is no UTF-8 must not end the dump.
      .tensor("\xff", 8, {32}, std::string(34, 'x'));
  const auto source = open_weights(folder.write("m.gguf", writer.build()));
  ASSERT_TRUE(source.ok()) << source.status().message();
  const json value = describe_json(**source);
  EXPECT_EQ(value["tokenizer"]["tokens"], 4);
  EXPECT_EQ(value["tokenizer"]["pre_tokenizer"], "smollm2");
  EXPECT_EQ(value["tokenizer"]["eos"], json::array({3}));
  EXPECT_EQ(value["tensors"][0]["dtype"], "Q8_0");
  EXPECT_FALSE(value.dump(-1, ' ', true).empty());
  EXPECT_THAT(describe(**source), HasSubstr("\"\\xff\""));
}

}  // namespace
}  // namespace gantry

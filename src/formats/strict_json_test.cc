#include "formats/strict_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/limits.h"
#include "formats/test_files.h"

namespace gantry {
namespace {

using ::testing::HasSubstr;

TEST(StrictJson, GivesTheSameValueAsNlohmann) {
  const std::string text =
      R"({"a":[1,-2,3.5,true,false,null,"x\u00e9",{}],"b":{"c":{"d":[[],[{"e":18446744073709551615}]]}},"big":1e30})";
  const auto value = parse_strict_json(text, "f.json");
  ASSERT_TRUE(value.ok()) << value.status().message();
  EXPECT_EQ(*value, nlohmann::json::parse(text));
  EXPECT_EQ(*parse_strict_json(" 7 ", "f.json"), 7);
  // tokenizer_config.json files say model_max_length like this.
  EXPECT_TRUE(parse_strict_json(R"({"n":1000000000000000019884624838656})", "f.json").ok());
}

TEST(StrictJson, RefusesMalformedText) {
  for (const std::string_view text : {"", "{", "{}}", "{\"a\":1,}", "[1 2]", "nan", "{\"a\":Infinity}",
                                      "\"\xff\"", "'a'", "{} //", "1e999"}) {
    const auto value = parse_strict_json(text, "f.json");
    ASSERT_FALSE(value.ok()) << text;
    EXPECT_THAT(value.status().message(), HasSubstr("f.json: is not valid JSON at byte "));
  }
}

TEST(StrictJson, RefusesDuplicateKeysAtAnyDepth) {
  const auto top = parse_strict_json(R"({"a":1,"b":2,"a":3})", "f.json");
  EXPECT_EQ(top.status().message(), "f.json: has the key \"a\" twice in one object");
  const auto inner = parse_strict_json(R"([{"x":{"k\n":1,"k\u000a":1}}])", "f.json");
  EXPECT_EQ(inner.status().message(), "f.json: has the key \"k\\x0a\" twice in one object");
  EXPECT_TRUE(parse_strict_json(R"([{"a":1},{"a":2}])", "f.json").ok());
}

TEST(StrictJson, LimitsDepth) {
  const auto nested = [](int depth) {
    return std::string(static_cast<size_t>(depth), '[') + std::string(static_cast<size_t>(depth), ']');
  };
  EXPECT_TRUE(parse_strict_json(nested(limits::kJsonDepthMax), "f.json").ok());
  const auto deeper = parse_strict_json(nested(limits::kJsonDepthMax + 1), "f.json");
  EXPECT_EQ(deeper.status().message(), "f.json: is nested deeper than 64");
  EXPECT_FALSE(parse_strict_json(std::string(1'000'000, '['), "f.json").ok());
}

TEST(StrictJson, FilesHoldObjectsWithinTheLimit) {
  testing::TempFolder folder;
  EXPECT_EQ(*read_json_object(folder.write("a.json", "{\"x\":1}")), (nlohmann::json{{"x", 1}}));
  EXPECT_THAT(read_json_object(folder.write("b.json", "[]")).status().message(),
              HasSubstr("b.json: is not a JSON object"));
  EXPECT_EQ(read_json_object(folder.file("none.json")).status().code(), StatusCode::kNotFound);
  folder.write("huge.json", "{}");
  std::filesystem::resize_file(folder.file("huge.json"), limits::kJsonFileBytesMax + 1);  // sparse
  EXPECT_EQ(read_json_object(folder.file("huge.json")).status().code(), StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace gantry

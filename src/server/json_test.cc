#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "base/limits.h"
#include "server/json_reader.h"
#include "server/json_writer.h"

namespace gantry {
namespace {

Status read(const std::string& text) { return read_json_object(text).status(); }

std::string repeat(const std::string& text, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += text;
  return out;
}

TEST(JsonReader, KeepsOrderAndValues) {
  Result<Json> json =
      read_json_object(R"({"b": [1, -2, 2.5, true, null, "x"], "a": {"k": "\u00e9\ud83d\ude00"}})");
  ASSERT_TRUE(json.ok()) << json.status().message();
  EXPECT_EQ(json->begin().key(), "b");
  EXPECT_EQ((*json)["b"].dump(), R"([1,-2,2.5,true,null,"x"])");
  EXPECT_EQ((*json)["a"]["k"], "é😀");
}

TEST(JsonReader, RefusesWhatIsNotAnObject) {
  for (const char* text : {"",
                           "   ",
                           "[]",
                           "1",
                           "null",
                           "\"x\"",
                           "{",
                           "{\"a\":}",
                           "{a:1}",
                           "{'a':1}",
                           "{\"a\":1,}",
                           "{\"a\":01}",
                           "{\"a\":+1}",
                           "{\"a\":.5}",
                           "{\"a\":NaN}",
                           "{\"a\":Infinity}",
                           "{\"a\":1} x",
                           "{\"a\":1}{}",
                           "// c\n{}",
                           "{\"a\":\"\x01\"}"}) {
    EXPECT_FALSE(read(text).ok()) << text;
  }
  EXPECT_FALSE(read(std::string("{\"a\":1}\0", 8)).ok());
}

TEST(JsonReader, RefusesRepeatedKeysAndNamesTheParameter) {
  EXPECT_EQ(read(R"({"a":1,"a":2})").param(), "a");
  const Status inner = read(R"({"x":1,"logit_bias":{"5":1,"5":2}})");
  EXPECT_FALSE(inner.ok());
  EXPECT_EQ(inner.param(), "logit_bias");
  EXPECT_TRUE(read(R"({"a":{"b":1},"b":{"b":1}})").ok());
}

TEST(JsonReader, RefusesBadEncodings) {
  EXPECT_FALSE(read("\xEF\xBB\xBF{}").ok());
  for (const char* text : {"\\ud800", "\\udc00", "\\ud800\\u0041", "\xC0\xAF", "\xED\xA0\x80", "\xFF",
                           "\xF4\x90\x80\x80", "\xC3"}) {
    const Status status = read("{\"prompt\":\"" + std::string(text) + "\"}");
    EXPECT_FALSE(status.ok()) << text;
    EXPECT_EQ(status.param(), "prompt") << text;
  }
}

TEST(JsonReader, RefusesNumbersOutOfRange) {
  EXPECT_EQ(read(R"({"temperature":1e400})").param(), "temperature");
  Result<Json> big = read_json_object(R"({"a":18446744073709551615,"b":18446744073709551616})");
  ASSERT_TRUE(big.ok());
  EXPECT_TRUE((*big)["a"].is_number_unsigned());
  EXPECT_TRUE((*big)["b"].is_number_float());
}

TEST(JsonReader, LimitsDepth) {
  const auto nested = [](size_t depth) { return "{\"a\":" + repeat("[", depth) + repeat("]", depth) + "}"; };
  EXPECT_TRUE(read(nested(limits::kJsonDepthMax - 1)).ok());
  EXPECT_FALSE(read(nested(limits::kJsonDepthMax)).ok());
  EXPECT_FALSE(read("{\"a\":" + repeat("[", 1'000'000)).ok());
  EXPECT_FALSE(read(repeat("{\"a\":", 1'000'000)).ok());
}

TEST(JsonReader, LimitsContainersAndKeys) {
  EXPECT_EQ(read("{\"stop\":[" + repeat("[],", limits::kJsonContainersMax) + "[]]}").param(), "stop");
  std::string keys;
  for (size_t i = 0; i <= limits::kJsonKeysMax; ++i) keys += "\"" + std::to_string(i) + "\":0,";
  EXPECT_EQ(read("{\"logit_bias\":{" + keys + "\"x\":0}}").param(), "logit_bias");
}

std::string as_json(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

TEST(JsonWriter, EscapesStrings) {
  EXPECT_EQ(as_json("a\"b\\c/\n\r\t\b\f\x01\x1f\x7f"), "\"a\\\"b\\\\c/\\n\\r\\t\\b\\f\\u0001\\u001f\x7f\"");
  EXPECT_EQ(as_json(std::string_view("\0", 1)), "\"\\u0000\"");
  EXPECT_EQ(as_json("é😀"), "\"é😀\"");
  EXPECT_EQ(as_json("a\xC3(\xED\xA0\x80\xF0\x9F\x98"), "\"a\uFFFD(\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\"");
}

TEST(JsonWriter, EveryStringReadsBack) {
  std::string text;
  for (int c = 0; c < 0x80; ++c) text += static_cast<char>(c);
  text += "\u0080\u07ff\u0800\uffff\U00010000\U0010ffff";
  EXPECT_EQ(nlohmann::json::parse(as_json(text)).get<std::string>(), text);
}

TEST(JsonWriter, WritesNumbers) {
  const auto number = [](double value) {
    std::string out;
    append_json_number(out, value);
    return out;
  };
  EXPECT_EQ(number(0.5), "0.5");
  EXPECT_EQ(number(-9999), "-9999");
  EXPECT_EQ(number(1e300), "1e+300");
  EXPECT_EQ(number(std::nan("")), "null");
  EXPECT_EQ(number(-std::numeric_limits<double>::infinity()), "null");
}

TEST(JsonWriter, PlacesCommas) {
  std::string out;
  JsonWriter json(out);
  json.object().key("a").array().value(1).value("x").object().end_object().array().end_array().end_array();
  json.key("b").null().key("c").value(true).key("d").object().key("e").value(0.25).end_object().end_object();
  EXPECT_EQ(out, R"({"a":[1,"x",{},[]],"b":null,"c":true,"d":{"e":0.25}})");
}

}  // namespace
}  // namespace gantry

#include "formats/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/limits.h"
#include "formats/test_files.h"

namespace gantry {
namespace {

using ::testing::HasSubstr;

Result<std::vector<SafetensorsTensor>> parse(std::string_view file) {
  return parse_safetensors(std::as_bytes(std::span(file)), file.size(), "m.safetensors");
}
Result<std::vector<SafetensorsTensor>> parse_header(std::string_view header, size_t data_bytes) {
  return parse(testing::safetensors_with_header(header, std::string(data_bytes, 'x')));
}

// Refused with a message that starts with the file, has no line break, and holds `part`.
void expect_refused(const Result<std::vector<SafetensorsTensor>>& result, const std::string& part) {
  ASSERT_FALSE(result.ok()) << "accepted, expected: " << part;
  const std::string message = result.status().message();
  EXPECT_TRUE(message.starts_with("m.safetensors: ")) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  EXPECT_THAT(message, HasSubstr(part));
}

std::string small_file() {
  return testing::SafetensorsWriter()
      .tensor("b", "F32", {2, 2}, std::string(16, '\1'))
      .tensor("a", "BF16", {3}, std::string(6, '\2'))
      .tensor("empty", "I64", {0, 5}, "")
      .tensor("scalar", "U8", {}, "z")
      .build();
}

TEST(Safetensors, ReadsTensorsInOrderOfTheirData) {
  const std::string file = small_file();
  const auto tensors = parse(file);
  ASSERT_TRUE(tensors.ok()) << tensors.status().message();
  ASSERT_EQ(tensors->size(), 4u);
  const uint64_t data = file.size() - 23;
  EXPECT_EQ((*tensors)[0].name, "b");
  EXPECT_EQ((*tensors)[0].shape, (Shape{2, 2}));
  EXPECT_EQ((*tensors)[0].offset, data);
  EXPECT_EQ((*tensors)[1].name, "a");
  EXPECT_EQ((*tensors)[1].dtype, DType::kBF16);
  EXPECT_EQ((*tensors)[1].offset, data + 16);
  EXPECT_EQ((*tensors)[2].name, "empty");
  EXPECT_EQ((*tensors)[2].bytes, 0u);
  EXPECT_EQ((*tensors)[3].shape, Shape());
  EXPECT_EQ((*tensors)[3].offset, data + 22);
}

TEST(Safetensors, ReadsEveryDType) {
  const std::pair<const char*, size_t> dtypes[] = {{"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F8_E4M3", 1},
                                                   {"I8", 1},  {"U8", 1},  {"I16", 2},  {"I32", 4},
                                                   {"I64", 8}, {"BOOL", 1}};
  for (const auto& [name, bytes] : dtypes) {
    const auto tensors =
        parse(testing::SafetensorsWriter().tensor("t", name, {3}, std::string(3 * bytes, 'x')).build());
    ASSERT_TRUE(tensors.ok()) << name << ": " << tensors.status().message();
    EXPECT_EQ(to_string((*tensors)[0].dtype), name);
  }
}

TEST(Safetensors, TakesMetadataAndNoTensors) {
  EXPECT_TRUE(parse_header(R"({"__metadata__":{"format":"pt"}})", 0).ok());
  EXPECT_TRUE(parse_header("{}   ", 0).ok());
}

TEST(Safetensors, RefusesBadHeaderSizes) {
  expect_refused(parse(""), "too few");
  expect_refused(parse("1234567"), "too few");
  std::string file;
  testing::append<uint64_t>(file, limits::kSafetensorsHeaderBytesMax + 1);
  expect_refused(parse(file + "{}"), "at most 104857600");
  file.clear();
  testing::append<uint64_t>(file, 3);
  expect_refused(parse(file + "{}"), "truncated");
  file.clear();
  testing::append<uint64_t>(file, UINT64_MAX);
  expect_refused(parse(file + "{}"), "at most");
}

TEST(Safetensors, RefusesBadJson) {
  expect_refused(parse_header("", 0), "not valid JSON");
  expect_refused(parse_header("{", 0), "not valid JSON");
  expect_refused(parse_header("{} x", 0), "not valid JSON");
  expect_refused(parse_header("{}{}", 0), "not valid JSON");
  expect_refused(parse_header("[]", 0), "not a JSON object");
  expect_refused(parse_header(" {}", 0), "not a JSON object");
  expect_refused(parse_header("{\"\xff\":1}", 0), "not valid JSON");
  expect_refused(parse_header(std::string(1000, '[') + std::string(1000, ']'), 0), "not valid JSON");
  expect_refused(parse_header(R"({"a":[[[[[[[[]]]]]]]]})", 0), "not valid JSON");
}

TEST(Safetensors, RefusesBadMetadata) {
  expect_refused(parse_header(R"({"__metadata__":[]})", 0), "__metadata__ is not an object");
  expect_refused(parse_header(R"({"__metadata__":{"a":1}})", 0), "\"a\" is not a string");
  expect_refused(parse_header(R"({"__metadata__":{"a":"1","a":"2"}})", 0), "\"a\" twice");
  expect_refused(parse_header(R"({"__metadata__":{},"__metadata__":{}})", 0), "twice");
}

TEST(Safetensors, RefusesBadEntries) {
  expect_refused(parse_header(R"({"t":1})", 0), "tensor \"t\": its entry is not an object");
  expect_refused(parse_header(R"({"t":{}})", 0), "needs dtype, shape and data_offsets");
  expect_refused(parse_header(R"({"t":{"dtype":"U8","shape":[1]}})", 1), "needs dtype");
  expect_refused(parse_header(R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}})", 1),
                 "unexpected or repeated key \"x\"");
  expect_refused(parse_header(R"({"t":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1),
                 "repeated key \"dtype\"");
  expect_refused(parse_header(R"({"t":{"dtype":1,"shape":[1],"data_offsets":[0,1]}})", 1),
                 "dtype is not a string");
  expect_refused(parse_header(R"({"t":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}})", 1),
                 "dtype \"F4\" is not supported; supported: F32, F16, BF16");
  expect_refused(parse_header(R"({"t":{"dtype":"Q4_0","shape":[32],"data_offsets":[0,18]}})", 18),
                 "not supported");
}

TEST(Safetensors, RefusesBadShapes) {
  const auto with_shape = [](const std::string& shape) {
    return parse_header(R"({"t":{"dtype":"I64","shape":)" + shape + R"(,"data_offsets":[0,8]}})", 8);
  };
  EXPECT_TRUE(with_shape("[1,1,1,1]").ok());
  expect_refused(with_shape("[1,1,1,1,1]"), "has 5 dimensions; at most 4");
  expect_refused(with_shape("1"), "shape is not an array");
  expect_refused(with_shape("[-1]"), "whole numbers");
  expect_refused(with_shape("[1.0]"), "whole numbers");
  expect_refused(with_shape("[\"1\"]"), "whole numbers");
  expect_refused(with_shape("[2]"), "span 8 bytes, I64 [2] needs 16");
  expect_refused(with_shape("[4294967296,4294967296]"), "product of its dimensions overflows");
  expect_refused(with_shape("[18446744073709551615]"), "overflows");
  expect_refused(with_shape("[2305843009213693952]"), "size in bytes overflows");  // 2^61 x 8
  expect_refused(with_shape("[18446744073709551616]"), "not valid JSON");
}

TEST(Safetensors, RefusesBadOffsets) {
  const auto with_offsets = [](const std::string& offsets, size_t data_bytes) {
    return parse_header(R"({"t":{"dtype":"U8","shape":[4],"data_offsets":)" + offsets + "}}", data_bytes);
  };
  EXPECT_TRUE(with_offsets("[0,4]", 4).ok());
  expect_refused(with_offsets("[0,4,4]", 4), "two numbers");
  expect_refused(with_offsets("[0]", 4), "two numbers");
  expect_refused(with_offsets("[4,0]", 4), "begin at 4 and end at 0");
  expect_refused(with_offsets("[0,5]", 5), "span 5 bytes");
  expect_refused(with_offsets("[1,5]", 5), "leaves a hole from 0");
  expect_refused(with_offsets("[0,4]", 3), "truncated");
  expect_refused(with_offsets("[0,4]", 5), "1 bytes follow");
  expect_refused(with_offsets("[18446744073709551611,18446744073709551615]", 4), "hole");
}

TEST(Safetensors, RefusesOverlapHoleAndDuplicate) {
  const auto two = [](const std::string& second, const std::string& name, size_t data_bytes) {
    return parse_header(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},")" + name +
                            R"(":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}",
                        data_bytes);
  };
  EXPECT_TRUE(two("[4,8]", "b", 8).ok());
  expect_refused(two("[3,7]", "b", 7), "tensor \"b\": its data at 3 overlaps");
  expect_refused(two("[0,4]", "b", 4), "overlaps");
  expect_refused(two("[5,9]", "b", 9), "tensor \"b\": its data begins at 5, which leaves a hole from 4");
  expect_refused(two("[4,8]", "a", 8), "has \"a\" twice");
  expect_refused(two("[4,8]", "\\u0061", 8), "has \"a\" twice");
}

TEST(Safetensors, NamesAreEscapedInMessages) {
  expect_refused(parse_header("{\"x\\n\\u001b[2J\":1}", 0), R"(tensor "x\x0a\x1b[2J")");
  expect_refused(parse_header("{\"" + std::string(2000, 'n') + "\":1}", 0), "a name of more than 1024 bytes");
}

TEST(Safetensors, EveryTruncationIsRefused) {
  const std::string file = small_file();
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_FALSE(parse(std::string(file, 0, size)).ok()) << size;
  }
}

TEST(Safetensors, MutationsNeverReachBeyondTheFile) {
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::string file = small_file();
    for (uint32_t flips = 1 + random() % 4; flips > 0; --flips) {
      file[random() % file.size()] = static_cast<char>(random());
    }
    const auto tensors = parse(file);
    if (!tensors.ok()) continue;
    for (const SafetensorsTensor& tensor : *tensors) {
      ASSERT_LE(tensor.offset, file.size());
      ASSERT_LE(tensor.bytes, file.size() - tensor.offset);
    }
  }
}

}  // namespace
}  // namespace gantry

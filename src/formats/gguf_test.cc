#include "formats/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "base/limits.h"
#include "formats/test_files.h"

namespace gantry {
namespace {

using ::testing::ElementsAre;
using testing::GgufWriter;
using ::testing::HasSubstr;

constexpr uint32_t kF32 = 0, kQ4_1 = 3, kQ4_K = 12;

Result<GgufFile> parse(std::string_view file) {
  return parse_gguf(std::as_bytes(std::span(file)), file.size(), "m.gguf");
}

void expect_refused(const std::string& file, const std::string& part) {
  const auto result = parse(file);
  ASSERT_FALSE(result.ok()) << "accepted, expected: " << part;
  const std::string message = result.status().message();
  EXPECT_TRUE(message.starts_with("m.gguf: ")) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  EXPECT_THAT(message, HasSubstr(part));
}

std::string small_file(uint32_t version = 3) {
  return GgufWriter(version)
      .string("general.architecture", "llama")
      .strings("tokens", {"a", "", "\xc4\xa0x"})
      .i32s("types", {1, -2, 3})
      .f32("eps", 1e-5f)
      .tensor("matrix", kF32, {2, 3}, std::string(24, '\1'))
      .tensor("blocks", kQ4_1, {64, 2}, std::string(80, '\2'))
      .tensor("scalar", kF32, {}, std::string(4, '\3'))
      .build();
}

TEST(Gguf, ReadsVersions2And3) {
  for (const uint32_t version : {2u, 3u}) {
    const std::string file = small_file(version);
    const auto gguf = parse(file);
    ASSERT_TRUE(gguf.ok()) << gguf.status().message();
    EXPECT_EQ(gguf->version, version);
    ASSERT_EQ(gguf->tensors.size(), 3u);
    const GgufTensor& matrix = gguf->tensors[0];
    EXPECT_EQ(matrix.name, "matrix");
    EXPECT_EQ(matrix.shape, (Shape{3, 2}));  // reversed
    EXPECT_EQ(matrix.bytes, 24u);
    EXPECT_EQ(file.substr(matrix.offset, 24), std::string(24, '\1'));
    const GgufTensor& blocks = gguf->tensors[1];
    EXPECT_EQ(blocks.dtype, DType::kQ4_1);
    EXPECT_EQ(blocks.shape, (Shape{2, 64}));
    EXPECT_EQ(blocks.bytes, 80u);
    EXPECT_EQ(file.substr(blocks.offset, 80), std::string(80, '\2'));
    EXPECT_EQ(gguf->tensors[2].shape.elements(), 1);
  }
}

TEST(Gguf, ReadsEveryValueType) {
  const std::string file = GgufWriter()
                               .u8("u8", 255)
                               .i8("i8", -128)
                               .u16("u16", 65535)
                               .i16("i16", -32768)
                               .u32("u32", UINT32_MAX)
                               .i32("i32", INT32_MIN)
                               .u64("u64", UINT64_MAX)
                               .i64("i64", INT64_MIN)
                               .f32("f32", 0.5f)
                               .f64("f64", 0.1)
                               .boolean("true", true)
                               .string("string", "text")
                               .build();
  const auto gguf = parse(file);
  ASSERT_TRUE(gguf.ok()) << gguf.status().message();
  EXPECT_EQ(gguf->find("u8")->as_int(), 255);
  EXPECT_EQ(gguf->find("i8")->as_int(), -128);
  EXPECT_EQ(gguf->find("u16")->as_int(), 65535);
  EXPECT_EQ(gguf->find("i16")->as_int(), -32768);
  EXPECT_EQ(gguf->find("u32")->as_int(), 4294967295);
  EXPECT_EQ(gguf->find("i32")->as_int(), INT32_MIN);
  EXPECT_EQ(gguf->find("u64")->as_int(), std::nullopt);  // does not fit
  EXPECT_EQ(gguf->find("i64")->as_int(), INT64_MIN);
  EXPECT_EQ(gguf->find("f32")->as_number(), 0.5);
  EXPECT_EQ(gguf->find("f64")->as_number(), 0.1);
  EXPECT_EQ(gguf->find("f64")->as_int(), std::nullopt);
  EXPECT_EQ(gguf->find("true")->as_bool(), true);
  EXPECT_EQ(gguf->find("true")->as_int(), std::nullopt);
  EXPECT_EQ(gguf->find("string")->as_string(), "text");
  EXPECT_EQ(gguf->find("absent"), nullptr);
}

TEST(Gguf, ReadsArraysOfEveryType) {
  GgufWriter writer;
  const auto array = [&](std::string_view key, uint32_t type, uint64_t count, const std::string& payload) {
    writer.entry(key, 9, GgufWriter::array_head(type, count) + payload);
  };
  array("u8", 0, 2, {"\x01\xff", 2});
  array("i8", 1, 2, {"\x01\xff", 2});
  array("i16", 3, 1, GgufWriter::raw<int16_t>(-5));
  array("u16", 2, 1, GgufWriter::raw<uint16_t>(5));
  array("u32", 4, 1, GgufWriter::raw<uint32_t>(6));
  array("u64", 10, 1, GgufWriter::raw<uint64_t>(UINT64_MAX));
  array("i64", 11, 1, GgufWriter::raw<int64_t>(-7));
  array("f32", 6, 1, GgufWriter::raw(0.5f));
  array("f64", 12, 1, GgufWriter::raw(0.25));
  array("bool", 7, 2, {"\0\1", 2});
  array("nested", 9, 2, GgufWriter::array_head(0, 1) + "\5" + GgufWriter::array_head(8, 0));
  const std::string file = writer.build();
  const auto gguf = parse(file);
  ASSERT_TRUE(gguf.ok()) << gguf.status().message();
  EXPECT_THAT(*gguf->find("u8")->as_ints(), ElementsAre(1, 255));
  EXPECT_THAT(*gguf->find("i8")->as_ints(), ElementsAre(1, -1));
  EXPECT_THAT(*gguf->find("i16")->as_ints(), ElementsAre(-5));
  EXPECT_THAT(*gguf->find("u16")->as_ints(), ElementsAre(5));
  EXPECT_THAT(*gguf->find("u32")->as_ints(), ElementsAre(6));
  EXPECT_EQ(gguf->find("u64")->as_ints(), std::nullopt);
  EXPECT_THAT(*gguf->find("i64")->as_ints(), ElementsAre(-7));
  EXPECT_THAT(std::get<std::vector<double>>(gguf->find("f32")->as_array()->items), ElementsAre(0.5));
  EXPECT_THAT(std::get<std::vector<double>>(gguf->find("f64")->as_array()->items), ElementsAre(0.25));
  EXPECT_THAT(std::get<std::vector<bool>>(gguf->find("bool")->as_array()->items), ElementsAre(false, true));
  const auto& nested = std::get<std::vector<GgufValue>>(gguf->find("nested")->as_array()->items);
  ASSERT_EQ(nested.size(), 2u);
  EXPECT_THAT(*nested[0].as_ints(), ElementsAre(5));
  EXPECT_EQ(nested[1].as_array()->size(), 0u);
}

TEST(Gguf, RefusesOtherFiles) {
  expect_refused("", "is not a GGUF file");
  expect_refused("GGU", "is not a GGUF file");
  expect_refused("PK\3\4aaaaaaaaaaaaaaaaaaaaaaaa", "is not a GGUF file");
  expect_refused(small_file(1), "version 1 is not supported; supported: 2, 3");
  expect_refused(small_file(4), "version 4 is not supported");
  expect_refused(small_file(0x03000000), "big-endian");
}

TEST(Gguf, RefusesCountsOverTheLimits) {
  const auto with_counts = [](uint64_t tensors, uint64_t entries) {
    return "GGUF" + GgufWriter::raw<uint32_t>(3) + GgufWriter::raw(tensors) + GgufWriter::raw(entries);
  };
  EXPECT_TRUE(parse(with_counts(0, 0)).ok());
  expect_refused(with_counts(limits::kGgufTensorsMax + 1, 0), "at most 1048576 are accepted");
  expect_refused(with_counts(0, limits::kGgufMetadataEntriesMax + 1), "at most 65536 are accepted");
  expect_refused(with_counts(UINT64_MAX, UINT64_MAX), "are accepted");
  expect_refused(with_counts(1, 0), "tensor 0 of 1: its name is truncated");
  expect_refused(with_counts(0, 1), "metadata entry 0: its key is truncated");
}

TEST(Gguf, RefusesBadMetadata) {
  expect_refused(GgufWriter().u8("k", 1).u8("k", 2).build(), "metadata key \"k\": is there twice");
  expect_refused(GgufWriter().entry("k", 13, "").build(), "its type 13 is unknown");
  expect_refused(GgufWriter().entry("k", 7, "\2").build(), "a boolean is 2");
  expect_refused(GgufWriter().u8(std::string(1025, 'k'), 1).build(), "longer than 1024 bytes");
  expect_refused(GgufWriter().entry("k", 8, GgufWriter::raw<uint64_t>(1u << 20)).build(),
                 "a string is truncated");
  expect_refused(GgufWriter().entry("k", 8, GgufWriter::raw(UINT64_MAX)).build(), "a string is truncated");
}

TEST(Gguf, RefusesBadArrays) {
  const auto with_array = [](const std::string& head) { return GgufWriter().entry("k", 9, head).build(); };
  expect_refused(with_array(GgufWriter::array_head(13, 0)), "its element type 13 is unknown");
  expect_refused(with_array(GgufWriter::array_head(4, 1u << 20)), "1048576 elements, but is truncated");
  expect_refused(with_array(GgufWriter::array_head(0, limits::kGgufArrayElementsMax + 1)),
                 "at most 16777216");
  expect_refused(with_array(GgufWriter::array_head(8, UINT64_MAX)), "at most 16777216");
  std::string nested;
  for (int i = 0; i < limits::kGgufArrayDepthMax; ++i) nested += GgufWriter::array_head(9, 1);
  expect_refused(with_array(nested + GgufWriter::array_head(0, 0)), "nested deeper than 4");
}

TEST(Gguf, RefusesBadAlignment) {
  const auto with_alignment = [](uint32_t alignment) {
    return GgufWriter().u32("general.alignment", alignment).build();
  };
  EXPECT_TRUE(parse(with_alignment(8)).ok());
  EXPECT_TRUE(parse(with_alignment(64)).ok());
  for (const uint32_t alignment : {0u, 1u, 4u, 24u, 33u, 1u << 21, UINT32_MAX}) {
    expect_refused(with_alignment(alignment), "not a power of two from 8");
  }
  expect_refused(GgufWriter().string("general.alignment", "32").build(), "not a power of two");
}

TEST(Gguf, HonoursAlignment) {
  std::string file = GgufWriter()
                         .u32("general.alignment", 64)
                         .tensor_at("a", kF32, {1}, 0)
                         .tensor_at("b", kF32, {1}, 64)
                         .build();
  file.resize((file.size() + 63) / 64 * 64, '\0');
  const size_t start = file.size();
  file.resize(start + 68);
  const auto gguf = parse(file);
  ASSERT_TRUE(gguf.ok()) << gguf.status().message();
  EXPECT_EQ(gguf->tensors[0].offset, start);
  EXPECT_EQ(gguf->tensors[1].offset, start + 64);
}

TEST(Gguf, RefusesBadTensors) {
  const auto with_tensor = [](uint32_t type, const std::vector<uint64_t>& dims, uint64_t offset,
                              size_t data_bytes) {
    return GgufWriter().tensor_at("t", type, dims, offset).build() + std::string(data_bytes, 'x');
  };
  EXPECT_TRUE(parse(with_tensor(kF32, {1, 1, 1, 1}, 0, 4)).ok());
  expect_refused(with_tensor(kF32, {1, 1, 1, 1, 1}, 0, 4), "tensor \"t\": has 5 dimensions; at most 4");
  expect_refused(with_tensor(kF32, {1ull << 32, 1ull << 32}, 0, 4), "product of its dimensions overflows");
  expect_refused(with_tensor(kF32, {1ull << 61}, 0, 4), "size in bytes overflows");
  expect_refused(with_tensor(kF32, {1}, 4, 8), "offset 4 is no multiple of the alignment 32");
  expect_refused(with_tensor(kF32, {1}, 0, 3), "truncated");
  expect_refused(with_tensor(kF32, {1}, 32, 4), "truncated");
  expect_refused(with_tensor(kF32, {1}, UINT64_MAX - 31, 4), "truncated");
  expect_refused(with_tensor(kQ4_1, {33}, 0, 40), "a row of 33 values is no multiple of Q4_1's block of 32");
  expect_refused(with_tensor(kQ4_K, {128, 2}, 0, 144), "no multiple of Q4_K's block of 256");
  expect_refused(with_tensor(kQ4_1, {}, 0, 40), "no multiple");
}

TEST(Gguf, RefusesOverlapAndDuplicate) {
  const auto two = [](const std::string& name, uint64_t offset) {
    return GgufWriter().tensor_at("a", kF32, {9}, 0).tensor_at(name, kF32, {1}, offset).build() +
           std::string(100, 'x');
  };
  EXPECT_TRUE(parse(two("b", 64)).ok());
  expect_refused(two("b", 32), "tensor \"b\": its data at 32 overlaps");
  expect_refused(two("b", 0), "overlaps");
  expect_refused(two("a", 64), "tensor \"a\": is there twice");
}

TEST(Gguf, RefusesTensorTypesByName) {
  const std::pair<uint32_t, const char*> types[] = {{4, "4"},    {9, "Q8_1"},   {10, "Q2_K"}, {16, "IQ2_XXS"},
                                                    {28, "F64"}, {39, "MXFP4"}, {31, "31"},   {1000, "1000"}};
  for (const auto& [type, name] : types) {
    expect_refused(
        GgufWriter().tensor("t", type, {256}, std::string(1024, 'x')).build(),
        std::string("tensor \"t\": type ") + name + " is not supported; supported: F32, F16, Q4_0, ");
  }
}

TEST(Gguf, ReadsEveryTensorType) {
  const std::pair<uint32_t, DType> types[] = {{0, DType::kF32},   {1, DType::kF16},  {30, DType::kBF16},
                                              {2, DType::kQ4_0},  {3, DType::kQ4_1}, {6, DType::kQ5_0},
                                              {7, DType::kQ5_1},  {8, DType::kQ8_0}, {12, DType::kQ4_K},
                                              {13, DType::kQ5_K}, {14, DType::kQ6_K}};
  for (const auto& [type, dtype] : types) {
    const size_t bytes = *bytes_of(dtype, 512);
    const auto gguf = parse(GgufWriter().tensor("t", type, {512}, std::string(bytes, 'x')).build());
    ASSERT_TRUE(gguf.ok()) << gguf.status().message();
    EXPECT_EQ(gguf->tensors[0].dtype, dtype);
    EXPECT_EQ(gguf->tensors[0].bytes, bytes);
  }
}

TEST(Gguf, EveryTruncationIsRefused) {
  const std::string file = small_file();
  const auto whole = parse(file);
  ASSERT_TRUE(whole.ok());
  const size_t end = whole->tensors.back().offset + whole->tensors.back().bytes;
  for (size_t size = 0; size < file.size(); ++size) {
    // Behind the last tensor there is padding only.
    EXPECT_EQ(parse(std::string(file, 0, size)).ok(), size >= end) << size;
  }
}

TEST(Gguf, MutationsNeverReachBeyondTheFile) {
  std::mt19937 random(2);
  for (int round = 0; round < 2000; ++round) {
    std::string file = small_file();
    for (uint32_t flips = 1 + random() % 4; flips > 0; --flips) {
      file[random() % file.size()] = static_cast<char>(random());
    }
    const auto gguf = parse(file);
    if (!gguf.ok()) continue;
    for (const GgufTensor& tensor : gguf->tensors) {
      ASSERT_LE(tensor.offset, file.size());
      ASSERT_LE(tensor.bytes, file.size() - tensor.offset);
    }
  }
}

}  // namespace
}  // namespace gantry

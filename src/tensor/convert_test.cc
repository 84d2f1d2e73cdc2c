#include "tensor/convert.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace gantry {
namespace {

TEST(Convert, EveryF16RoundTrips) {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const float f = f16_to_f32(static_cast<uint16_t>(h));
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(f))));
    } else {
      EXPECT_EQ(f32_to_f16(f), h);
    }
  }
}

TEST(Convert, F16RoundsToNearestEven) {
  EXPECT_EQ(f32_to_f16(1.0f + 0x1p-11f), 0x3c00);  // a tie goes to even
  EXPECT_EQ(f32_to_f16(1.0f + 0x1p-11f + 0x1p-20f), 0x3c01);
  EXPECT_EQ(f32_to_f16(1.0f + 3 * 0x1p-11f), 0x3c02);
  EXPECT_EQ(f32_to_f16(65519.0f), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(f32_to_f16(0x1p-25f), 0);
  EXPECT_EQ(f32_to_f16(0x1.8p-25f), 1);
}

TEST(Convert, Bf16RoundsToNearestEven) {
  EXPECT_EQ(f32_to_bf16(1.0f + 0x1p-8f), 0x3f80);
  EXPECT_EQ(f32_to_bf16(1.0f + 3 * 0x1p-8f), 0x3f82);
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0x7f800001u)))));
}

TEST(Convert, EveryE4m3RoundTrips) {
  for (int b = 0; b < 256; ++b) {
    const float f = e4m3_to_f32(static_cast<uint8_t>(b));
    if ((b & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(f));
      EXPECT_EQ(f32_to_e4m3(f) & 0x7f, 0x7f);
      continue;
    }
    EXPECT_EQ(f32_to_e4m3(f), b);
    const int exponent = (b >> 3) & 15, mantissa = b & 7;
    const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                          : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
    EXPECT_EQ(f, b & 0x80 ? -magnitude : magnitude) << b;
  }
}

TEST(Convert, E4m3RoundsToNearestEven) {
  EXPECT_EQ(f32_to_e4m3(1.0625f), 0x38);  // a tie goes to even
  EXPECT_EQ(f32_to_e4m3(1.0626f), 0x39);
  EXPECT_EQ(f32_to_e4m3(1.1875f), 0x3a);
  EXPECT_EQ(f32_to_e4m3(0x1p-10f), 0);
  EXPECT_EQ(f32_to_e4m3(-0x1.8p-9f), 0x82);
  EXPECT_EQ(f32_to_e4m3(0x1.fp-7f), 0x08);
  EXPECT_EQ(f32_to_e4m3(1e30f), 0x7e);
  EXPECT_EQ(f32_to_e4m3(-INFINITY), 0xfe);
}

TEST(Convert, FindsE4m3Nans) {
  std::vector<uint8_t> bytes(10'000, 0x7e);
  EXPECT_FALSE(e4m3_has_nan(bytes));
  for (const size_t at : {0u, 4095u, 4096u, 9999u}) {
    bytes[at] = 0xff;
    EXPECT_TRUE(e4m3_has_nan(bytes)) << at;
    bytes[at] = 0xfe;
  }
}

TEST(Dequantize, Q4_1ByHand) {
  uint8_t block[20] = {};
  const uint16_t d = f32_to_f16(0.5f), m = f32_to_f16(-2.0f);
  std::memcpy(block, &d, 2);
  std::memcpy(block + 2, &m, 2);
  block[4] = 0xf1;  // element 0 is 1, element 16 is 15
  float out[32];
  dequantize({block, DType::kQ4_1, Shape{32}}, 0, out);
  EXPECT_EQ(out[0], -1.5f);
  EXPECT_EQ(out[16], 5.5f);
  EXPECT_EQ(out[1], -2.0f);
}

TEST(Dequantize, Q6_KByHand) {
  uint8_t block[210] = {};
  const uint16_t d = f32_to_f16(0.25f);
  std::memcpy(block + 208, &d, 2);
  for (int i = 0; i < 16; ++i) block[192 + i] = static_cast<uint8_t>(i + 1);
  block[128] = 0b11'10'01'00;  // high bits of elements 0, 32, 64, 96
  block[0] = 0x21;             // low bits of elements 0 and 64
  float out[256];
  dequantize({block, DType::kQ6_K, Shape{256}}, 0, out);
  EXPECT_EQ(out[0], 0.25f * 1 * (1 - 32));
  EXPECT_EQ(out[32], 0.25f * 3 * (16 - 32));
  EXPECT_EQ(out[64], 0.25f * 5 * (2 + 32 - 32));
  EXPECT_EQ(out[96], 0.25f * 7 * (48 - 32));
  EXPECT_EQ(out[255], 0.25f * 16 * -32);
}

// The values of the `gguf` package, bit for bit (testdata/make_dequantize_golden.py).
TEST(Dequantize, EveryFormatEqualsTheGgufPackage) {
  const char* root = std::getenv("GANTRY_SOURCE_DIR");
  ASSERT_NE(root, nullptr) << "ctest sets GANTRY_SOURCE_DIR to the repository's root";
  std::ifstream file(std::string(root) + "/src/tensor/testdata/dequantize_golden.bin", std::ios::binary);
  const std::vector<char> golden{std::istreambuf_iterator<char>(file), {}};
  ASSERT_FALSE(golden.empty());
  size_t at = 0;
  for (const DType dtype : {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0,
                            DType::kQ4_K, DType::kQ5_K, DType::kQ6_K}) {
    const DTypeInfo& info = dtype_info(dtype);
    ASSERT_LE(at + 12, golden.size());
    ASSERT_EQ(std::string(&golden[at]), info.name);
    uint32_t blocks;
    std::memcpy(&blocks, &golden[at + 8], 4);
    const char* packed = &golden[at + 12];
    const size_t packed_bytes = blocks * static_cast<size_t>(info.block_bytes);
    std::vector<float> expected(blocks * static_cast<size_t>(info.block_elements)), values(expected.size());
    at += 12 + packed_bytes + expected.size() * sizeof(float);
    ASSERT_LE(at, golden.size());
    std::memcpy(expected.data(), packed + packed_bytes, expected.size() * sizeof(float));
    dequantize({packed, dtype, Shape{static_cast<int64_t>(values.size())}}, 0, values);
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(std::bit_cast<uint32_t>(values[i]), std::bit_cast<uint32_t>(expected[i]))
          << info.name << " value " << i << ": " << values[i] << " for " << expected[i];
    }
  }
  EXPECT_EQ(at, golden.size());
}

}  // namespace
}  // namespace gantry

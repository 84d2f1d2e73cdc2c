// Packing is lossless: what a panel holds dequantises to the file's values, bit for bit.
#include "kernels/cpu/packing.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <array>

#include "kernels/cpu/weight_layout.h"
#include "kernels/test_support.h"

namespace gantry::cpu {
namespace {

using kernel_test::AlignedBytes;
using kernel_test::kWeightDTypes;
using kernel_test::random_tensor;
using kernel_test::Rng;

std::vector<float> dequantized_row(const TensorView& view, int64_t row, int64_t cols) {
  std::vector<float> values(static_cast<size_t>(cols));
  dequantize(view, row * cols, values);
  return values;
}

TEST(Packing, EveryFormatRoundTripsForRaggedRows) {
  Rng rng(5);
  for (const DType dtype : kWeightDTypes) {
    for (const int64_t rows : {1, 16, 45}) {
      const int64_t cols = is_quantized(dtype) ? 512 : 333;
      const auto file = random_tensor(rng, dtype, rows * cols, 1.0f);
      const TensorView view{file.data(), dtype, Shape{rows, cols}};
      const auto scales = kernel_test::random_scales(rng, view.shape, dtype, 1, 1.0f);
      const TensorView scale_view{scales.empty() ? nullptr : scales.data(), DType::kF32,
                                  Shape{scale_blocks(rows), scale_blocks(cols)}};
      const WeightSpec spec{.parts = {&view, 1}, .scales = {&scale_view, 1}};
      AlignedBytes storage(packed_weight_bytes(spec));
      const PackedWeight packed = pack_weight(spec, storage.span()).value();
      EXPECT_EQ(packed.rows, rows);
      EXPECT_EQ(packed.bytes, static_cast<uint64_t>(panel_count(rows) * panel_bytes(dtype, cols)));
      for (int64_t row = 0; row < rows; ++row) {
        std::vector<float> actual(static_cast<size_t>(cols));
        unpack_row(packed, 0, 0, row, actual);
        std::vector<float> expected = dequantized_row(view, row, cols);
        if (!scales.empty()) kernel_test::scale_row(scales.data(), row, expected);
        ASSERT_TRUE(kernel_test::same_bits(actual, expected))
            << to_string(dtype) << " row " << row << " of " << rows;
      }
    }
  }
}

TEST(Packing, RowsThatFollowMakeTheSameBytes) {
  Rng rng(6);
  for (const DType dtype : kWeightDTypes) {
    const int64_t cols = is_quantized(dtype) ? 512 : 333;
    const int64_t rows[] = {300, 45};
    std::vector<kernel_test::Bytes> files;
    std::vector<kernel_test::Floats> scales;
    std::vector<TensorView> parts, scale_views, laid_out, biases(2);
    for (const int64_t count : rows) {
      files.push_back(random_tensor(rng, dtype, count * cols, 1.0f));
      parts.push_back({files.back().data(), dtype, Shape{count, cols}});
      laid_out.push_back({nullptr, dtype, Shape{count, cols}});
      scales.push_back(kernel_test::random_scales(rng, parts.back().shape, dtype, 1, 1.0f));
      scale_views.push_back({scales.back().empty() ? nullptr : scales.back().data(), DType::kF32,
                             Shape{scale_blocks(count), scale_blocks(cols)}});
    }
    const std::vector<float> bias(300, 0.5f);
    biases[0] = {bias.data(), DType::kF32, Shape{300}};
    const WeightSpec whole{.parts = parts, .biases = biases, .scales = scale_views};
    const WeightSpec follow{.parts = laid_out, .biases = biases, .scales = scale_views, .rows_follow = true};
    AlignedBytes expected(packed_weight_bytes(whole)), actual(packed_weight_bytes(follow));
    std::ranges::fill(actual.span(), std::byte{0xa5});
    ASSERT_EQ(expected.span().size(), actual.span().size());
    const PackedWeight packed = pack_weight(whole, expected.span()).value();
    const PackedWeight rows_packed = pack_weight(follow, actual.span()).value();
    EXPECT_EQ(rows_packed.bytes, packed.bytes);
    EXPECT_EQ(rows_packed.rows, packed.rows);
    for (const auto& [part, first, count] :
         {std::array<int64_t, 3>{0, 128, 172}, {1, 0, 45}, {0, 0, 128}}) {  // in any order
      const TensorView& view = parts[static_cast<size_t>(part)];
      const TensorView band{view.as<uint8_t>() + first * row_bytes(dtype, cols), dtype, Shape{count, cols}};
      ASSERT_TRUE(pack_rows(rows_packed, actual.span(),
                            {.part = static_cast<int>(part),
                             .first = first,
                             .values = band,
                             .scales = scale_views[static_cast<size_t>(part)]})
                      .ok());
    }
    for (int p = 0; p < 2; ++p) {
      const auto& of = rows_packed.parts[static_cast<size_t>(p)];
      for (int64_t row = 0; row < of.rows; ++row) {
        std::vector<float> want(static_cast<size_t>(cols)), got(want.size());
        unpack_row(packed, p, 0, row, want);
        unpack_row(rows_packed, p, 0, row, got);
        ASSERT_TRUE(kernel_test::same_bits(got, want)) << to_string(dtype) << " part " << p << " row " << row;
      }
    }
    EXPECT_EQ(rows_packed.parts[0].bias[299], 0.5f);
  }
}

TEST(Packing, ANanInRowsThatFollowNamesTheWholePart) {
  std::vector<uint8_t> codes(200 * 128, 0x38);
  codes[199 * 128] = 0x7f;
  const std::vector<float> ones(2, 1.0f);
  const TensorView part{nullptr, DType::kF8E4M3, Shape{200, 128}};
  const TensorView scales{ones.data(), DType::kF32, Shape{2, 1}};
  const WeightSpec spec{.parts = {&part, 1}, .scales = {&scales, 1}, .rows_follow = true};
  AlignedBytes storage(packed_weight_bytes(spec));
  const PackedWeight packed = pack_weight(spec, storage.span()).value();
  const TensorView band{codes.data() + 128 * 128, DType::kF8E4M3, Shape{72, 128}};
  const Status status =
      pack_rows(packed, storage.span(), {.part = 0, .first = 128, .values = band, .scales = scales});
  EXPECT_EQ(status.message(), "F8_E4M3 weight [200, 128]: holds a NaN");
}

TEST(Packing, BytesOfWholePanelsAreThoseOfTheFile) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0,
                            DType::kQ5_1, DType::kQ8_0}) {
    EXPECT_EQ(panel_bytes(dtype, 1024), static_cast<int64_t>(*bytes_of(dtype, 16 * 1024)))
        << to_string(dtype);
  }
  // A scale for 16 rows of 128 columns; the scales of a panel are padded to 64 bytes.
  EXPECT_EQ(panel_bytes(DType::kF8E4M3, 7168), 16 * 7168 + 256);
  // The 6-bit scales take a byte each.
  EXPECT_EQ(panel_bytes(DType::kQ4_K, 1024), 16 * 4 * (144 + 4));
  EXPECT_EQ(panel_bytes(DType::kQ6_K, 1024), 16 * 4 * 210);
}

TEST(Packing, ExpertsStackedOrApartPackAlike) {
  Rng rng(6);
  constexpr int64_t kExperts = 3, kRows = 20, kCols = 64;
  constexpr DType kGate = DType::kQ4_1, kUp = DType::kQ8_0;
  const auto gate = random_tensor(rng, kGate, kExperts * kRows * kCols, 1.0f);
  const auto up = random_tensor(rng, kUp, kExperts * kRows * kCols, 1.0f);
  const TensorView stacked[] = {{gate.data(), kGate, Shape{kExperts, kRows, kCols}},
                                {up.data(), kUp, Shape{kExperts, kRows, kCols}}};
  std::vector<TensorView> apart;
  for (int64_t e = 0; e < kExperts; ++e) {
    apart.push_back({gate.data() + e * kRows * row_bytes(kGate, kCols), kGate, Shape{kRows, kCols}});
    apart.push_back({up.data() + e * kRows * row_bytes(kUp, kCols), kUp, Shape{kRows, kCols}});
  }
  const WeightSpec one{.parts = stacked, .batch = kExperts}, other{.parts = apart, .batch = kExperts};
  ASSERT_EQ(packed_weight_bytes(one), packed_weight_bytes(other));
  AlignedBytes a(packed_weight_bytes(one)), b(packed_weight_bytes(other));
  const PackedWeight packed = pack_weight(one, a.span()).value();
  ASSERT_EQ(pack_weight(other, b.span()).value().part_count, 2);
  EXPECT_EQ(std::memcmp(a.span().data(), b.span().data(), a.span().size()), 0);
  std::vector<float> row(kCols);
  unpack_row(packed, 1, 2, 7, row);
  EXPECT_TRUE(kernel_test::same_bits(row, dequantized_row(stacked[1], 2 * kRows + 7, kCols)));
}

TEST(Packing, Fp8RefusesWhatHasNoValue) {
  Rng rng(7);
  const Shape shape{130, 140};
  auto file = random_tensor(rng, DType::kF8E4M3, shape.elements(), 1.0f);
  std::vector<float> scales(4, 1.0f);
  const TensorView view{file.data(), DType::kF8E4M3, shape};
  const auto refusal = [&](const TensorView& scale_view) {
    const WeightSpec spec{.parts = {&view, 1}, .scales = {&scale_view, 1}};
    AlignedBytes storage(packed_weight_bytes(spec));
    const Status packed = pack_weight(spec, storage.span()).status();
    EXPECT_EQ(in_place_weight(spec).status().message(), packed.message());
    return std::string(packed.message());
  };
  const TensorView good{scales.data(), DType::kF32, Shape{2, 2}};
  EXPECT_EQ(refusal(good), "");
  EXPECT_THAT(refusal({}), testing::HasSubstr("no scales, want F32 [2, 2]"));
  EXPECT_THAT(refusal({scales.data(), DType::kF32, Shape{2, 1}}),
              testing::HasSubstr("scales are F32 [2, 1]"));
  EXPECT_THAT(refusal({scales.data(), DType::kBF16, Shape{2, 2}}), testing::HasSubstr("scales are BF16"));
  scales[3] = kernel_test::kNan;
  EXPECT_THAT(refusal(good), testing::HasSubstr("scale 3 is not finite"));
  scales[3] = 1.0f;
  for (const int code : {0x7f, 0xff}) {
    file[129 * 140 + 139] = static_cast<std::byte>(code);
    EXPECT_THAT(refusal(good), testing::HasSubstr("holds a NaN"));
  }
}

TEST(Packing, RefusesWhatDoesNotFit) {
  const std::vector<float> data(64 * 64);
  const auto refusal = [&](std::vector<TensorView> parts, int64_t batch = 1) {
    AlignedBytes storage(1 << 16);
    const WeightSpec spec{.parts = parts, .batch = batch};
    EXPECT_EQ(packed_weight_bytes(spec), 0u);
    return pack_weight(spec, storage.span()).status();
  };
  const auto view = [&](DType dtype, Shape shape) { return TensorView{data.data(), dtype, shape}; };
  EXPECT_THAT(refusal({}).message(), testing::HasSubstr("1 to 4"));
  EXPECT_EQ(refusal({view(DType::kI32, {4, 32})}).code(), StatusCode::kUnimplemented);
  EXPECT_THAT(refusal({view(DType::kQ4_K, {4, 64})}).message(), testing::HasSubstr("no multiple of 256"));
  EXPECT_THAT(refusal({view(DType::kF32, {4, 32}), view(DType::kF32, {4, 31})}).message(),
              testing::HasSubstr("stacked on 32 columns"));
  EXPECT_THAT(refusal({view(DType::kF32, {2, 4, 32})}, 3).message(), testing::HasSubstr("want 3 x"));
  EXPECT_THAT(refusal({view(DType::kF32, {4, 32}), view(DType::kF16, {4, 32})}, 2).message(),
              testing::HasSubstr("another entry"));
  EXPECT_THAT(refusal({view(DType::kF32, {32})}).message(), testing::HasSubstr("rows x cols"));

  const TensorView part = view(DType::kF32, {16, 32});
  const WeightSpec spec{.parts = {&part, 1}};
  AlignedBytes storage(packed_weight_bytes(spec));
  EXPECT_THAT(pack_weight(spec, storage.span().subspan(64)).status().message(),
              testing::HasSubstr("needs 2048"));
}

}  // namespace
}  // namespace gantry::cpu

#include "kernels/ops/packed_weight.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace gantry {
namespace {

using testing::HasSubstr;

constexpr float kData[4096] = {};

TensorView view(DType dtype, Shape shape) { return {kData, dtype, shape}; }

TEST(InPlaceWeight, StacksParts) {
  const std::vector<TensorView> parts = {view(DType::kQ8_0, {3, 64}), view(DType::kF16, {5, 64})};
  const std::vector<TensorView> biases = {{}, view(DType::kF32, {5})};
  const PackedWeight w = in_place_weight({.parts = parts, .biases = biases}).value();
  EXPECT_EQ(w.rows, 8);
  EXPECT_EQ(w.cols, 64);
  EXPECT_EQ(w.part_count, 2);
  EXPECT_EQ(w.bytes, 3u * 2 * 34 + 5 * 64 * 2);
  EXPECT_EQ(w.parts[0].bias, nullptr);
  EXPECT_EQ(w.parts[1].bias, kData);
  EXPECT_EQ(w.parts[1].rows, 5);
}

TEST(InPlaceWeight, BatchEntriesLieOneAfterTheOther) {
  const std::vector<TensorView> parts(4, view(DType::kQ4_0, {3, 64}));
  const PackedWeight w = in_place_weight({.parts = parts, .batch = 4}).value();
  EXPECT_EQ(w.parts[0].batch_stride, 3 * 2 * 18);
  EXPECT_EQ(w.rows, 3);
  EXPECT_EQ(w.batch, 4);
  EXPECT_EQ(w.part_count, 1);
}

TEST(AdjoinedWeight, CopiesTheRunsOfEntries) {
  const float gate_0 = 1, up_0[2] = {2, 3}, gate_1 = 4, up_1[2] = {5, 6};
  const std::vector<TensorView> parts = {{&gate_0, DType::kF32, {1, 1}},
                                         {up_0, DType::kF32, {2, 1}},
                                         {&gate_1, DType::kF32, {1, 1}},
                                         {up_1, DType::kF32, {2, 1}}};
  const WeightSpec spec{.parts = parts, .batch = 2};
  std::vector<float> storage(adjoined_bytes(spec) / sizeof(float));
  const PackedWeight w = adjoined_weight(spec, std::as_writable_bytes(std::span(storage))).value();
  EXPECT_THAT(storage, testing::ElementsAre(1, 4, 2, 3, 5, 6));
  EXPECT_EQ(w.rows, 3);
  EXPECT_EQ(w.parts[0].data, storage.data());
  EXPECT_EQ(w.parts[1].data, storage.data() + 2);
  EXPECT_EQ(w.parts[1].batch_stride, 8);
  EXPECT_EQ(w.bytes, 24u);

  const std::vector<TensorView> alone = {parts[0]};
  EXPECT_EQ(adjoined_bytes({.parts = alone}), 0u);
  EXPECT_EQ(adjoined_weight({.parts = alone}, {}).value().parts[0].data, &gate_0);
}

TEST(AdjoinedWeight, KeepsNothingOfTransientParts) {
  const uint8_t codes[] = {0x38, 0x40, 0xb8};  // 1, 2, -1
  const float scale = 0.5f;
  const TensorView part{codes, DType::kF8E4M3, {1, 3}}, scales{&scale, DType::kF32, {1, 1}};
  const WeightSpec spec{.parts = {&part, 1}, .scales = {&scales, 1}, .transient = true};
  std::vector<float> storage(adjoined_bytes(spec) / sizeof(float));
  const PackedWeight w = adjoined_weight(spec, std::as_writable_bytes(std::span(storage))).value();
  EXPECT_EQ(w.parts[0].data, storage.data());
  EXPECT_EQ(w.parts[0].scales, storage.data() + 1);
  EXPECT_EQ(storage[1], 0.5f);
}

Status refused(const WeightSpec& spec) { return in_place_weight(spec).status(); }

TEST(InPlaceWeight, RefusesWhatDoesNotStack) {
  const std::vector<TensorView> widths = {view(DType::kF32, {3, 64}), view(DType::kF32, {3, 32})};
  EXPECT_THAT(refused({.parts = widths}).message(), HasSubstr("[3, 32]: stacked on 64 columns"));
  const std::vector<TensorView> rank = {view(DType::kF32, {64})};
  EXPECT_EQ(refused({.parts = rank}).code(), StatusCode::kInvalidArgument);
  const std::vector<TensorView> batch(3, view(DType::kF32, {2, 8}));
  EXPECT_THAT(refused({.parts = batch, .batch = 2}).message(), HasSubstr("2 entries, not 3 in all"));
  const std::vector<TensorView> uneven = {view(DType::kF32, {3, 8}), view(DType::kF32, {2, 8})};
  EXPECT_THAT(refused({.parts = uneven, .batch = 2}).message(), HasSubstr("[2, 8]: entry 0 has F32 [3, 8]"));
  const std::vector<TensorView> ragged = {view(DType::kQ4_K, {2, 128})};
  EXPECT_THAT(refused({.parts = ragged}).message(), HasSubstr("no multiple of 256"));
  const std::vector<TensorView> empty = {view(DType::kF32, {0, 8})};
  EXPECT_THAT(refused({.parts = empty}).message(), HasSubstr("empty"));
  EXPECT_THAT(refused({}).message(), HasSubstr("1 to 4"));
}

TEST(InPlaceWeight, RefusesBiasesThatDoNotFit) {
  const std::vector<TensorView> parts = {view(DType::kF32, {3, 64})};
  const std::vector<TensorView> length = {view(DType::kF32, {4})};
  EXPECT_THAT(refused({.parts = parts, .biases = length}).message(), HasSubstr("want F32 [3]"));
  const std::vector<TensorView> dtype = {view(DType::kF16, {3})};
  EXPECT_FALSE(refused({.parts = parts, .biases = dtype}).ok());
  const std::vector<TensorView> count = {{}, {}};
  EXPECT_FALSE(refused({.parts = parts, .biases = count}).ok());
}

TEST(InPlaceWeight, NamesTheDtypesThatItReads) {
  const std::vector<TensorView> parts = {view(DType::kI32, {3, 64})};
  const Status status = refused({.parts = parts});
  EXPECT_EQ(status.code(), StatusCode::kUnimplemented);
  EXPECT_THAT(status.message(), HasSubstr("F32, F16, BF16"));
}

}  // namespace
}  // namespace gantry

#include "model/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

namespace gantry {
namespace {

using nlohmann::json;

// DeepSeek-R1's config.json.
RopeConfig deepseek_r1() {
  return {.theta = 10000.0,
          .scaling = RopeConfig::Scaling::kYarn,
          .factor = 40.0,
          .original_max_position = 4096,
          .mscale = 1.0,
          .mscale_all_dim = 1.0,
          .interleaved = true};
}

// The frequencies and factors that transformers computes (tests/parity/models/make_goldens.py).
TEST(Rope, FrequenciesAreThoseOfTransformers) {
  const char* source = std::getenv("GANTRY_SOURCE_DIR");  // set by ctest; by hand: run in the source folder
  json golden;
  std::ifstream(std::filesystem::path(source != nullptr ? source : ".") /
                "tests/parity/models/goldens/rope.json") >>
      golden;
  ASSERT_GE(golden.at("ropes").size(), 10u);
  for (const json& rope : golden.at("ropes")) {
    const json config = {{"architectures", {"LlamaForCausalLM"}},
                         {"hidden_size", rope.at("dim")},
                         {"num_attention_heads", 1},
                         {"num_hidden_layers", 1},
                         {"intermediate_size", 1},
                         {"vocab_size", 1},
                         {"max_position_embeddings", rope.at("max_position_embeddings")},
                         {"rope_parameters", rope.at("rope_parameters")}};
    const RopeConfig parsed = parse_model_config(config, json::object()).value().rope;
    const auto expected = rope.at("inverse_frequencies").get<std::vector<float>>();
    const std::vector<float> actual = inverse_frequencies(parsed, rope.at("dim").get<int32_t>(), {});
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < actual.size(); ++i) {
      EXPECT_NEAR(actual[i], expected[i], 4e-7 * expected[i]) << rope.at("name") << " " << i;
    }
    EXPECT_FLOAT_EQ(rope_attention_factor(parsed), rope.at("attention_factor").get<float>())
        << rope.at("name");
  }
}

TEST(Rope, DeepseekR1ScalesItsSoftmax) {
  EXPECT_NEAR(mla_softmax_scale(deepseek_r1(), 192), 0.135234f, 1e-6f);
  EXPECT_FLOAT_EQ(mla_softmax_scale({}, 192), 1.0f / std::sqrt(192.0f));
  EXPECT_FLOAT_EQ(rope_attention_factor(deepseek_r1()), 1.0f);
}

TEST(Rope, DeepseekR1KeepsTenPairsAndInterpolatesFrom23) {
  const std::vector<float> scaled = inverse_frequencies(deepseek_r1(), 64, {});
  const std::vector<float> plain = inverse_frequencies({}, 64, {});
  for (size_t i = 0; i < 32; ++i) {
    const float ratio = plain[i] / scaled[i];
    if (i <= 10) {
      EXPECT_FLOAT_EQ(ratio, 1.0f) << i;
    } else if (i >= 23) {
      EXPECT_NEAR(ratio, 40.0f, 1e-4f) << i;
    } else {
      EXPECT_GT(ratio, 1.0f) << i;
      EXPECT_LT(ratio, 40.0f) << i;
    }
  }
}

TEST(Rope, FactorsDivideFrequencies) {
  const std::vector<float> plain = inverse_frequencies({}, 8, {});
  const std::vector<float> factors{1.0f, 2.0f, 4.0f, 32.0f};
  const std::vector<float> scaled = inverse_frequencies({}, 8, factors);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(scaled[i], plain[i] / factors[i]);
}

TEST(Rope, RowsFollowTheirSegments) {
  const Rope rope({.theta = 100.0}, 4);
  const std::vector<Segment> segments{{.first_row = 0, .rows = 2, .first_position = 5},
                                      {.first_row = 2, .rows = 1, .first_position = 0}};
  std::vector<float> cos(6, NAN), sin(6, NAN);
  const RopeRows rows = rope.rows(segments, cos.data(), sin.data());
  EXPECT_EQ(rows.pairs, 2);
  EXPECT_FALSE(rows.interleaved);
  const float angles[] = {5.0f, 0.5f, 6.0f, 0.6f, 0.0f, 0.0f};
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_NEAR(cos[i], std::cos(angles[i]), 1e-6f) << i;
    EXPECT_NEAR(sin[i], std::sin(angles[i]), 1e-6f) << i;
  }
}

}  // namespace
}  // namespace gantry

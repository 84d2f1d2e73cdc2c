#include "kernels/ops/gate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace gantry {
namespace {

struct Picked {
  std::vector<int32_t> ids;
  std::vector<float> weights;
};

Picked select(const GateParams& params, const std::vector<float>& logits,
              const std::vector<float>& bias = {}) {
  const auto k = static_cast<size_t>(params.experts_per_token);
  Picked picked{std::vector<int32_t>(k, -1), std::vector<float>(k, NAN)};
  std::vector<float> scratch(logits.size());
  gate_select(params, logits.data(), bias.empty() ? nullptr : bias.data(), scratch.data(), picked.ids,
              picked.weights);
  return picked;
}

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

TEST(Gate, PicksTheBestAndNormalises) {
  const Picked p = select({.experts = 4, .experts_per_token = 2, .scaling = 2.5f}, {0.0f, 3.0f, -1.0f, 2.0f});
  EXPECT_EQ(p.ids, (std::vector<int32_t>{1, 3}));
  const float sum = sigmoid(3.0f) + sigmoid(2.0f);
  EXPECT_FLOAT_EQ(p.weights[0], 2.5f * sigmoid(3.0f) / sum);
  EXPECT_FLOAT_EQ(p.weights[1], 2.5f * sigmoid(2.0f) / sum);
}

TEST(Gate, WithoutNormalisationWeightsAreScaledScores) {
  const Picked p =
      select({.experts = 2, .experts_per_token = 1, .normalize = false, .scaling = 3.0f}, {-1.0f, 1.0f});
  EXPECT_FLOAT_EQ(p.weights[0], 3.0f * sigmoid(1.0f));
}

TEST(Gate, BiasSelectsButDoesNotWeigh) {
  const Picked p = select({.experts = 3, .experts_per_token = 1, .normalize = false}, {5.0f, 0.0f, -2.0f},
                          {-1.0f, 0.0f, 2.0f});
  EXPECT_EQ(p.ids, (std::vector<int32_t>{2}));
  EXPECT_FLOAT_EQ(p.weights[0], sigmoid(-2.0f));
}

// Groups are {0, 1}, {2, 3}, {4, 5}. With every biased score below zero, masking with zero instead of -inf
// would pick experts of the dropped groups.
TEST(Gate, NegativeBiasesStayInTheKeptGroups) {
  const std::vector<float> bias(6, -4.0f);
  const Picked p = select({.experts = 6, .experts_per_token = 2, .groups = 3, .topk_group = 1},
                          {0.0f, 0.1f, 2.0f, 1.0f, -1.0f, -1.0f}, bias);
  EXPECT_EQ(p.ids, (std::vector<int32_t>{2, 3}));
}

TEST(Gate, AGroupCountsItsTwoBestOnly) {
  // Group {0, 1, 2} has the best single expert and the larger total; group {3, 4, 5} the better pair.
  const Picked p = select({.experts = 6, .experts_per_token = 1, .groups = 2, .topk_group = 1},
                          {3.0f, 0.0f, 0.0f, 2.0f, 1.9f, -9.0f});
  EXPECT_EQ(p.ids, (std::vector<int32_t>{3}));
}

TEST(Gate, TiesGoToTheLowerIndex) {
  const Picked experts = select({.experts = 5, .experts_per_token = 2}, {0.5f, 0.5f, 0.5f, 0.5f, 0.5f});
  EXPECT_EQ(experts.ids, (std::vector<int32_t>{0, 1}));
  const Picked groups = select({.experts = 6, .experts_per_token = 2, .groups = 3, .topk_group = 1},
                               {-1.0f, -1.0f, 1.0f, 1.0f, 1.0f, 1.0f});
  EXPECT_EQ(groups.ids, (std::vector<int32_t>{2, 3}));
}

TEST(Gate, KeepingAllGroupsEqualsNoGroups) {
  const std::vector<float> logits = {0.3f, -2.0f, 1.0f, 4.0f, -0.1f, 2.0f, 0.0f, 0.2f};
  const std::vector<float> bias = {-3.0f, 1.0f, -0.5f, -2.0f, 0.25f, 0.0f, 0.5f, -1.0f};
  const Picked none = select({.experts = 8, .experts_per_token = 3}, logits, bias);
  const Picked all =
      select({.experts = 8, .experts_per_token = 3, .groups = 4, .topk_group = 4}, logits, bias);
  EXPECT_EQ(none.ids, all.ids);
  EXPECT_EQ(none.weights, all.weights);
}

TEST(Gate, GroupsOfOneExpert) {
  const Picked p =
      select({.experts = 4, .experts_per_token = 2, .groups = 4, .topk_group = 2}, {1.0f, 4.0f, 3.0f, 2.0f});
  EXPECT_EQ(p.ids, (std::vector<int32_t>{1, 2}));
}

TEST(Gate, VanishingScoresDoNotDivideByZero) {
  const Picked p = select({.experts = 2, .experts_per_token = 2}, {-200.0f, -200.0f});
  EXPECT_EQ(p.weights, (std::vector<float>{0.0f, 0.0f}));
}

TEST(Gate, NotANumberStillPicksDistinctExperts) {
  const Picked p = select({.experts = 3, .experts_per_token = 2}, {NAN, NAN, NAN});
  EXPECT_EQ(p.ids, (std::vector<int32_t>{0, 1}));
}

TEST(Gate, ParametersMustFitEachOther) {
  EXPECT_TRUE(gate_params_valid({.experts = 256, .experts_per_token = 8, .groups = 8, .topk_group = 4}));
  EXPECT_FALSE(gate_params_valid({.experts = 10, .experts_per_token = 2, .groups = 3, .topk_group = 1}));
  EXPECT_FALSE(gate_params_valid({.experts = 8, .experts_per_token = 3, .groups = 4, .topk_group = 1}));
  EXPECT_FALSE(gate_params_valid({.experts = 8, .experts_per_token = 1, .groups = 2, .topk_group = 3}));
  EXPECT_FALSE(gate_params_valid({.experts = 2048, .experts_per_token = 1}));
  EXPECT_FALSE(gate_params_valid({}));
}

}  // namespace
}  // namespace gantry

#include "sample/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "base/limits.h"

namespace gantry {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
using Top = std::array<TokenLogprob, limits::kTopLogprobsMax>;

std::vector<float> random_row(size_t vocab, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> row(vocab);
  for (float& x : row) x = normal(random);
  return row;
}

SamplerState state_of(const SamplingParams& params, size_t vocab, std::vector<TokenId> generated = {},
                      std::vector<TokenId> prompt = {0}) {
  auto request = std::make_shared<GenerateRequest>();
  request->params = params;
  request->params.max_tokens = 100;
  request->prompt = std::move(prompt);
  return SamplerState(request, 0, generated, static_cast<int64_t>(vocab));
}

TokenId draw(const std::vector<float>& row, const SamplerState& state, int32_t position = 1) {
  Sampler sampler(static_cast<int64_t>(row.size()), 1);
  Top top;
  const Sample sample = sampler.draw(row, state, position, top, 0);
  EXPECT_EQ(sample.error, SampleError::kNone);
  return sample.token;
}

SamplingParams greedy() {
  SamplingParams p;
  p.temperature = 0;
  return p;
}

// The target distribution by the book: full sort, double precision.
std::map<TokenId, double> target(const std::vector<float>& row, const SamplingParams& p) {
  std::vector<std::pair<double, TokenId>> tokens;
  for (size_t i = 0; i < row.size(); ++i) {
    tokens.emplace_back(-static_cast<double>(row[i]) / p.temperature, static_cast<TokenId>(i));
  }
  std::sort(tokens.begin(), tokens.end());
  if (p.top_k > 0) tokens.resize(std::min(tokens.size(), static_cast<size_t>(p.top_k)));
  const double best = tokens[0].first;
  const auto weight = [&](size_t i) { return std::exp(best - tokens[i].first); };
  double mass = 0;
  for (size_t i = 0; i < tokens.size(); ++i) mass += weight(i);
  size_t keep = 0;
  for (double sum = 0; keep < tokens.size() && (keep == 0 || sum < p.top_p * mass); ++keep)
    sum += weight(keep);
  while (keep > 1 && weight(keep - 1) < p.min_p) --keep;
  mass = 0;
  for (size_t i = 0; i < keep; ++i) mass += weight(i);
  std::map<TokenId, double> out;
  for (size_t i = 0; i < keep; ++i) out[tokens[i].second] = weight(i) / mass;
  return out;
}

TEST(Sampler, GreedyTakesTheBestAndOfEqualOnesTheLowestId) {
  std::vector<float> row(200, 0.0f);
  EXPECT_EQ(draw(row, state_of(greedy(), 200)), 0);
  row[150] = row[190] = 2;
  EXPECT_EQ(draw(row, state_of(greedy(), 200)), 150);
  row[70] = 2;
  EXPECT_EQ(draw(row, state_of(greedy(), 200)), 70);
}

TEST(Sampler, DrawsFollowTheTargetDistribution) {
  const std::vector<float> small = random_row(300, 3);
  const std::vector<float> large = random_row(1500, 5);
  std::vector<SamplingParams> cases(10);
  cases[1].temperature = 0.5f;
  cases[2].top_k = 5;
  cases[3].top_p = 0.8f;
  cases[4].min_p = 0.1f;
  cases[5].top_k = 40;
  cases[5].top_p = 0.7f;
  cases[6].top_p = 0.95f;
  cases[6].min_p = 0.05f;
  cases[6].temperature = 1.5f;
  cases[7].top_p = 0.999f;
  cases[7].temperature = 2;
  cases[8].top_p = 0.99f;  // of 1,500 tokens: more than are tried by sorting
  cases[8].temperature = 2;
  cases[9] = cases[8];
  cases[9].min_p = 0.02f;
  for (size_t c = 0; c < cases.size(); ++c) {
    cases[c].seed = 11 * c;
    const std::vector<float>& row = c < 8 ? small : large;
    const std::map<TokenId, double> expected = target(row, cases[c]);
    const SamplerState state = state_of(cases[c], row.size());
    Sampler sampler(static_cast<int64_t>(row.size()), 1);
    Top top;
    const int draws = c < 8 ? 20'000 : 5'000;
    std::map<TokenId, int> seen;
    for (int32_t position = 0; position < draws; ++position) {
      ++seen[sampler.draw(row, state, position, top, 0).token];
    }
    double chi_squared = 0;
    double rare = 0;
    int rare_seen = 0;
    int bins = 0;
    for (const auto& [id, p] : expected) {
      if (p * draws < 8) {
        rare += p * draws;
        rare_seen += seen[id];
        continue;
      }
      chi_squared += std::pow(seen[id] - p * draws, 2) / (p * draws);
      ++bins;
    }
    for (const auto& [id, count] : seen) EXPECT_TRUE(count == 0 || expected.count(id)) << "case " << c;
    EXPECT_NEAR(rare_seen, rare, 5 * std::sqrt(rare) + 1) << "case " << c;
    // Mean bins - 1, deviation sqrt(2 bins).
    EXPECT_LT(chi_squared, bins + 5 * std::sqrt(2.0 * bins)) << "case " << c;
  }
}

TEST(Sampler, ADrawDependsOnSeedAndPositionAlone) {
  const std::vector<float> row = random_row(1000, 3);
  SamplingParams p;
  p.seed = 5;
  Sampler sampler(1000, 2);
  Top top;
  const SamplerState state = state_of(p, 1000);
  std::vector<TokenId> first;
  for (int32_t i = 0; i < 50; ++i) first.push_back(sampler.draw(row, state, i, top, 0).token);
  for (int32_t i = 49; i >= 0; --i) {
    EXPECT_EQ(sampler.draw(row, state, i, top, 1).token, first[static_cast<size_t>(i)]);
  }
  EXPECT_GT(std::set<TokenId>(first.begin(), first.end()).size(), 10u);
}

TEST(Sampler, ExtremeParametersStillDraw) {
  std::vector<float> row = random_row(500, 4);
  const TokenId best = static_cast<TokenId>(std::max_element(row.begin(), row.end()) - row.begin());
  SamplingParams p;
  p.top_p = 1e-30f;
  EXPECT_EQ(draw(row, state_of(p, 500)), best);
  p = {};
  p.min_p = 1;
  EXPECT_EQ(draw(row, state_of(p, 500)), best);
  p = {};
  p.top_k = 1;
  EXPECT_EQ(draw(row, state_of(p, 500)), best);
  p = {};
  p.temperature = 1e-4f;
  EXPECT_EQ(draw(row, state_of(p, 500)), best);
  p.temperature = 1e-30f;
  EXPECT_EQ(draw(row, state_of(p, 500)), best);
  p = {};
  p.repetition_penalty = 1e-38f;
  draw(row, state_of(p, 500, {1, 2, 3}));
  std::vector<float> one(500, -kInfinity);
  one[321] = -5;
  p = {};
  for (const float top_p : {1.0f, 0.5f}) {
    p.top_p = top_p;
    EXPECT_EQ(draw(one, state_of(p, 500)), 321);
  }
}

TEST(Sampler, PenaltiesBiasAndMinTokensByTheBook) {
  const std::vector<float> row = {1.0f, -1.0f, 2.0f, 0.5f, -0.5f, 1.9f};
  SamplingParams p = greedy();
  EXPECT_EQ(draw(row, state_of(p, 6)), 2);
  p.repetition_penalty = 1.5f;  // 2 / 1.5 < 1.9
  EXPECT_EQ(draw(row, state_of(p, 6, {}, {2})), 5);
  EXPECT_EQ(draw(row, state_of(p, 6, {2, 5}, {2})), 2);  // 2 / 1.5 > 1.9 / 1.5
  p = greedy();
  p.presence_penalty = 0.2f;  // generated tokens only
  EXPECT_EQ(draw(row, state_of(p, 6, {}, {2})), 2);
  EXPECT_EQ(draw(row, state_of(p, 6, {2}, {2})), 5);
  p = greedy();
  p.frequency_penalty = 0.4f;
  EXPECT_EQ(draw(row, state_of(p, 6, {2, 5, 5, 2, 2})), 5);  // 0.8, 1.1, against 1.0
  p.frequency_penalty = 0.5f;
  EXPECT_EQ(draw(row, state_of(p, 6, {2, 5, 5, 2, 2})), 0);
  p = greedy();
  p.logit_bias = {{1, 4.0f}, {2, -100.0f}};
  EXPECT_EQ(draw(row, state_of(p, 6)), 1);
  p = greedy();
  p.min_tokens = 2;
  p.eos_token_ids = {2, 99};
  p.stop_token_ids = {5};
  EXPECT_EQ(draw(row, state_of(p, 6)), 0);
  EXPECT_EQ(draw(row, state_of(p, 6, {0})), 0);
  EXPECT_EQ(draw(row, state_of(p, 6, {0, 0})), 2);
  p.ignore_eos = true;  // then the model's own end token is a token like any other
  EXPECT_EQ(draw(row, state_of(p, 6)), 2);
}

TEST(Sampler, LogprobsAreOfTheRawLogits) {
  const std::vector<float> row = random_row(777, 9);
  double sum = 0;
  for (const float x : row) sum += std::exp(static_cast<double>(x));
  const auto exact = [&](TokenId id) { return row[static_cast<size_t>(id)] - std::log(sum); };
  SamplingParams p;
  p.temperature = 0.3f;
  p.logit_bias = {{5, 100.0f}};
  p.presence_penalty = 1;
  p.logprobs = 7;
  Sampler sampler(777, 1);
  Top top;
  const Sample sample = sampler.draw(row, state_of(p, 777, {1}), 4, top, 0);
  EXPECT_EQ(sample.token, 5);
  EXPECT_NEAR(sample.logprob, exact(5), 1e-5);
  std::vector<TokenId> order(777);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](TokenId a, TokenId b) { return exact(a) > exact(b); });
  ASSERT_EQ(sample.tops, 7);
  for (size_t i = 0; i < 7; ++i) {
    EXPECT_EQ(top[i].id, order[i]);
    EXPECT_NEAR(top[i].logprob, exact(order[i]), 1e-5);
  }
  const Sample score = sampler.score(row, 123, 3, top, 0);
  EXPECT_NEAR(score.logprob, exact(123), 1e-5);
  EXPECT_EQ(score.tops, 3);
}

TEST(Sampler, BadLogitsAreAnErrorNotAToken) {
  std::vector<float> row = random_row(100, 1);
  Sampler sampler(100, 1);
  Top top;
  row[77] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(sampler.draw(row, state_of({}, 100), 1, top, 0).error, SampleError::kLogitsNotFinite);
  EXPECT_EQ(sampler.score(row, 1, 0, top, 0).error, SampleError::kLogitsNotFinite);
  row.assign(100, -kInfinity);
  EXPECT_EQ(sampler.draw(row, state_of({}, 100), 1, top, 0).error, SampleError::kNothingLeft);
  EXPECT_EQ(sampler.score(row, 1, 0, top, 0).error, SampleError::kNothingLeft);
  row[3] = 1;
  SamplingParams p;
  p.min_tokens = 1;
  p.stop_token_ids = {3};
  EXPECT_EQ(sampler.draw(row, state_of(p, 100), 1, top, 0).error, SampleError::kNothingLeft);
}

}  // namespace
}  // namespace gantry

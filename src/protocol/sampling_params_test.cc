#include "protocol/sampling_params.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "base/limits.h"

namespace gantry {
namespace {

constexpr int64_t kVocab = 100;

SamplingParams good() {
  SamplingParams params;
  params.max_tokens = 8;
  return params;
}

TEST(SamplingParams, AcceptsTheEndsOfEveryRange) {
  EXPECT_TRUE(validate(good(), kVocab).ok());
  SamplingParams p = good();
  p.n = limits::kChoicesMax;
  p.min_tokens = 8;
  p.temperature = 2;
  p.top_k = std::numeric_limits<int32_t>::max();
  p.min_p = 1;
  p.presence_penalty = -2;
  p.frequency_penalty = 2;
  p.repetition_penalty = 2;
  p.logit_bias = {{0, -100}, {kVocab - 1, 100}};
  p.logprobs = limits::kTopLogprobsMax;
  p.stop_token_ids = {0, kVocab - 1};
  EXPECT_TRUE(validate(p, kVocab).ok()) << validate(p, kVocab).message();
}

TEST(SamplingParams, MaxTokensZeroOnlyWithPromptLogprobs) {
  SamplingParams p = good();
  p.max_tokens = 0;
  EXPECT_EQ(validate(p, kVocab).param(), "max_tokens");
  p.prompt_logprobs = 0;
  EXPECT_TRUE(validate(p, kVocab).ok());
}

TEST(SamplingParams, NamesTheFieldAtFault) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<std::pair<std::string, std::function<void(SamplingParams&)>>> cases = {
      {"n", [](auto& p) { p.n = 0; }},
      {"n", [](auto& p) { p.n = limits::kChoicesMax + 1; }},
      {"max_tokens", [](auto& p) { p.max_tokens = -1; }},
      {"min_tokens", [](auto& p) { p.min_tokens = 9; }},
      {"min_tokens", [](auto& p) { p.min_tokens = -1; }},
      {"temperature", [](auto& p) { p.temperature = 2.001f; }},
      {"temperature", [&](auto& p) { p.temperature = nan; }},
      {"top_p", [](auto& p) { p.top_p = 0; }},
      {"top_p", [&](auto& p) { p.top_p = nan; }},
      {"top_k", [](auto& p) { p.top_k = -1; }},
      {"min_p", [](auto& p) { p.min_p = 1.1f; }},
      {"presence_penalty", [](auto& p) { p.presence_penalty = -2.1f; }},
      {"frequency_penalty", [](auto& p) { p.frequency_penalty = 2.1f; }},
      {"repetition_penalty", [](auto& p) { p.repetition_penalty = 0; }},
      {"logprobs", [](auto& p) { p.logprobs = limits::kTopLogprobsMax + 1; }},
      {"prompt_logprobs", [](auto& p) { p.prompt_logprobs = -2; }},
      {"logit_bias", [](auto& p) { p.logit_bias = {{kVocab, 1}}; }},
      {"logit_bias", [&](auto& p) { p.logit_bias = {{1, nan}}; }},
      {"logit_bias", [](auto& p) { p.logit_bias.resize(limits::kLogitBiasMax + 1); }},
      {"stop_token_ids", [](auto& p) { p.stop_token_ids = {-1}; }},
      {"stop_token_ids", [](auto& p) { p.stop_token_ids.resize(limits::kStopTokenIdsMax + 1); }},
  };
  for (const auto& [param, change] : cases) {
    SamplingParams p = good();
    change(p);
    const Status status = validate(p, kVocab);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << param;
    EXPECT_EQ(status.param(), param) << status.message();
    EXPECT_NE(status.message().find(param), std::string::npos) << status.message();
  }
}

}  // namespace
}  // namespace gantry

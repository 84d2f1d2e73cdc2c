// Requests for tests that compare what a replica answers under different conditions.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "engine/testing/frame_collector.h"

namespace gantry {

// Mixed parameters; the first 128 ids of every prompt are the same. Ids in [0, vocab).
inline GenerateRequest random_request(uint64_t id, int32_t vocab, std::mt19937_64& random) {
  GenerateRequest r;
  r.id = RequestId{id};
  const auto pick = [&](int32_t low, int32_t high) {
    return low + static_cast<int32_t>(random() % static_cast<uint64_t>(high - low + 1));
  };
  const int32_t prompt = pick(1, 300);
  for (int32_t i = 0; i < prompt; ++i) r.prompt.push_back(i < 128 ? i % vocab : pick(0, vocab - 1));
  SamplingParams& p = r.params;
  p.max_tokens = pick(1, 40);
  p.seed = random();
  p.temperature = pick(0, 3) == 0 ? 0.0f : 0.8f;
  p.top_k = pick(0, 2) == 0 ? pick(1, 50) : 0;
  p.top_p = pick(0, 2) == 0 ? 0.9f : 1.0f;
  p.min_p = pick(0, 3) == 0 ? 0.05f : 0.0f;
  p.presence_penalty = pick(0, 3) == 0 ? 0.5f : 0.0f;
  p.repetition_penalty = pick(0, 3) == 0 ? 1.2f : 1.0f;
  p.logprobs = pick(-1, 5);
  p.prompt_logprobs = pick(0, 3) == 0 ? pick(0, 3) : -1;
  p.eos_token_ids = {7};
  p.min_tokens = pick(0, 1) == 0 ? pick(0, p.max_tokens) : 0;
  p.n = pick(0, 4) == 0 ? pick(2, 4) : 1;
  return r;
}

// Half of them outgrow what they were admitted with: a small cache preempts.
inline std::vector<GenerateRequest> random_requests(uint64_t count, int32_t vocab, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<GenerateRequest> requests;
  for (uint64_t id = 1; id <= count; ++id) {
    requests.push_back(random_request(id, vocab, random));
    if (id % 4 > 1) continue;
    requests.back().prompt.resize(60, 1);
    requests.back().params.max_tokens = 150;
    requests.back().params.min_tokens = 150;
  }
  return requests;
}

inline bool same(const std::vector<TokenLogprob>& a, const std::vector<TokenLogprob>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const TokenLogprob& x, const TokenLogprob& y) {
    return x.id == y.id && x.logprob == y.logprob;
  });
}

inline void expect_same(const FrameCollector::Stream& a, const FrameCollector::Stream& b, uint64_t id) {
  EXPECT_EQ(a.tokens, b.tokens) << id;
  EXPECT_EQ(a.logprobs, b.logprobs) << id;
  EXPECT_EQ(a.last.finish, b.last.finish) << id;
  ASSERT_EQ(a.top.size(), b.top.size()) << id;
  for (size_t i = 0; i < a.top.size(); ++i) EXPECT_TRUE(same(a.top[i], b.top[i])) << id << " " << i;
}

// Submits all at once, or each after the one before it has ended.
inline void serve(ReplicaClient& replica, FrameCollector& collector,
                  const std::vector<GenerateRequest>& requests, bool one_by_one) {
  const auto wait = [&](const GenerateRequest& r) {
    for (int32_t c = 0; c < r.params.n; ++c) collector.wait_for_end(r.id.value, c);
  };
  for (const GenerateRequest& r : requests) {
    EXPECT_TRUE(replica.submit(r).ok());
    if (one_by_one) wait(r);
  }
  for (const GenerateRequest& r : requests) wait(r);
}

// Tokens, logprobs and prompt logprobs, bit for bit.
inline void expect_same_answers(FrameCollector& a, FrameCollector& b,
                                const std::vector<GenerateRequest>& requests) {
  for (const GenerateRequest& r : requests) {
    for (int32_t c = 0; c < r.params.n; ++c) {
      expect_same(a.wait_for_end(r.id.value, c), b.wait_for_end(r.id.value, c), r.id.value);
    }
  }
  const std::vector<PromptLogprobs> prompts = a.prompts();
  const std::vector<PromptLogprobs> twins = b.prompts();
  for (const GenerateRequest& r : requests) {
    const auto is_its = [&](const PromptLogprobs& p) { return p.request == r.id; };
    const auto p = std::find_if(prompts.begin(), prompts.end(), is_its);
    const auto twin = std::find_if(twins.begin(), twins.end(), is_its);
    ASSERT_EQ(p != prompts.end(), r.params.prompt_logprobs >= 0) << r.id.value;
    ASSERT_EQ(twin != twins.end(), p != prompts.end()) << r.id.value;
    if (p == prompts.end()) continue;
    EXPECT_TRUE(same(p->tokens, twin->tokens)) << r.id.value;
    ASSERT_EQ(p->top.size(), twin->top.size());
    for (size_t i = 0; i < p->top.size(); ++i) EXPECT_TRUE(same(p->top[i], twin->top[i])) << r.id.value;
  }
}

}  // namespace gantry

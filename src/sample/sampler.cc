#include "sample/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/limits.h"
#include "sample/philox.h"

namespace gantry {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Below this temperature sampling is greedy (vLLM's _SAMPLING_EPS).
constexpr float kTemperatureMin = 1e-5f;

float max_of(std::span<const float> block_max) {
  return *std::max_element(block_max.begin(), block_max.end());
}

TokenId first_equal(std::span<const float> logits, std::span<const float> block_max, float max) {
  const auto block = std::find(block_max.begin(), block_max.end(), max) - block_max.begin();
  const auto at = std::find(logits.begin() + block * kLogitBlock, logits.end(), max);
  return static_cast<TokenId>(at - logits.begin());
}

}  // namespace

SamplerState::SamplerState(std::shared_ptr<const GenerateRequest> request, int32_t choice,
                           std::span<const TokenId> generated, int64_t vocab)
    : request_(std::move(request)), choice_(choice) {
  const SamplingParams& p = params();
  if (penalises()) {
    const size_t tokens = prompt().size() + static_cast<size_t>(p.max_tokens);
    counts_.reserve(std::min(tokens, static_cast<size_t>(vocab)));
    for (const TokenId id : prompt()) counts_.add_prompt(id);
  }
  if (p.min_tokens > 0) {
    end_tokens_ = p.stop_token_ids;
    if (!p.ignore_eos) end_tokens_.insert(end_tokens_.end(), p.eos_token_ids.begin(), p.eos_token_ids.end());
    std::erase_if(end_tokens_, [vocab](TokenId id) { return id < 0 || id >= vocab; });
  }
  for (const TokenId id : generated) push(id);
}

bool SamplerState::penalises() const {
  const SamplingParams& p = params();
  return p.repetition_penalty != 1 || p.presence_penalty != 0 || p.frequency_penalty != 0;
}

void SamplerState::push(TokenId token) {
  last_token_ = token;
  ++generated_;
  if (penalises()) counts_.add_generated(token);
}

Sampler::Sampler(int64_t vocab, int threads) : scratch_(static_cast<size_t>(threads)) {
  const auto size = static_cast<size_t>(vocab);
  const auto blocks = static_cast<size_t>(logit_blocks(vocab));
  for (Scratch& scratch : scratch_) {
    scratch.logits.resize(size);
    scratch.weights.resize(size);
    scratch.block_max.resize(blocks);
    scratch.block_scratch.resize(blocks);
    scratch.block_sum.resize(blocks);
    scratch.candidates.reserve(size);
  }
}

bool Sampler::adjusts(const SamplerState& state) {
  return !state.params().logit_bias.empty() || state.penalises() ||
         (state.generated_ < state.params().min_tokens && !state.end_tokens_.empty());
}

void Sampler::adjust(const SamplerState& state, std::span<float> logits) {
  const SamplingParams& p = state.params();
  for (const auto& [id, bias] : p.logit_bias) logits[static_cast<size_t>(id)] += bias;
  if (state.generated_ < p.min_tokens) {
    for (const TokenId id : state.end_tokens_) logits[static_cast<size_t>(id)] = -kInfinity;
  }
  if (!state.penalises()) return;
  for (const TokenCounts::Entry& seen : state.counts_.entries()) {
    float& logit = logits[static_cast<size_t>(seen.id)];
    logit = logit > 0 ? logit / p.repetition_penalty : logit * p.repetition_penalty;
    logit = std::min(logit, std::numeric_limits<float>::max());  // a tiny penalty divides beyond it
    if (seen.generated == 0) continue;
    logit -= p.frequency_penalty * static_cast<float>(seen.generated);
    logit -= p.presence_penalty;
  }
}

int32_t Sampler::best(std::span<const float> logits, float logsumexp, int32_t tops, Scratch& scratch,
                      std::span<TokenLogprob> top) {
  if (tops <= 0) return 0;
  best_candidates(logits, scratch.block_max, scratch.block_scratch, tops, scratch.candidates);
  for (size_t i = 0; i < scratch.candidates.size(); ++i) {
    top[i] = {scratch.candidates[i].id, scratch.candidates[i].logit - logsumexp};
  }
  return static_cast<int32_t>(scratch.candidates.size());
}

Sample Sampler::score(std::span<const float> logits, TokenId token, int32_t tops, std::span<TokenLogprob> top,
                      int thread) {
  Scratch& scratch = scratch_[static_cast<size_t>(thread)];
  Sample sample;
  sample.token = token;
  if (!block_maxima(logits, scratch.block_max)) {
    sample.error = SampleError::kLogitsNotFinite;
    return sample;
  }
  const float max = max_of(scratch.block_max);
  if (max == -kInfinity) {
    sample.error = SampleError::kNothingLeft;
    return sample;
  }
  const float logsumexp = static_cast<float>(max + std::log(exp_sum(logits, max, 1)));
  sample.logprob = logits[static_cast<size_t>(token)] - logsumexp;
  sample.tops = best(logits, logsumexp, tops, scratch, top);
  return sample;
}

Sample Sampler::draw(std::span<const float> raw, const SamplerState& state, int32_t position,
                     std::span<TokenLogprob> top, int thread) {
  Scratch& scratch = scratch_[static_cast<size_t>(thread)];
  const SamplingParams& p = state.params();
  Sample sample;
  if (!block_maxima(raw, scratch.block_max)) {
    sample.error = SampleError::kLogitsNotFinite;
    return sample;
  }
  float max = max_of(scratch.block_max);
  float logsumexp = 0;
  if (p.logprobs >= 0 && max > -kInfinity) {
    logsumexp = static_cast<float>(max + std::log(exp_sum(raw, max, 1)));
    sample.tops = best(raw, logsumexp, p.logprobs, scratch, top);
  }

  std::span<const float> logits = raw;
  if (adjusts(state)) {
    std::copy(raw.begin(), raw.end(), scratch.logits.begin());
    adjust(state, scratch.logits);
    logits = scratch.logits;
    block_maxima(logits, scratch.block_max);
    max = max_of(scratch.block_max);
  }
  if (max == -kInfinity) {
    sample.error = SampleError::kNothingLeft;
    return sample;
  }

  if (p.temperature < kTemperatureMin) {
    sample.token = first_equal(logits, scratch.block_max, max);
  } else {
    const double uniform = uniform_at(p.seed, state.choice(), position);
    const bool all =
        (p.top_k <= 0 || p.top_k >= static_cast<int64_t>(logits.size())) && p.top_p >= 1 && p.min_p <= 0;
    sample.token = all ? draw_from_all(logits, max, 1 / p.temperature, uniform, scratch)
                       : draw_from_best(logits, max, p, uniform, scratch);
  }
  if (p.logprobs >= 0) sample.logprob = raw[static_cast<size_t>(sample.token)] - logsumexp;
  return sample;
}

// In order of id: blocks first, then within the block.
TokenId Sampler::draw_from_all(std::span<const float> logits, float max, float scale, double uniform,
                               Scratch& scratch) {
  const double total = exp_weights(logits, max, scale, scratch.weights, scratch.block_sum);
  double left = uniform * total;
  size_t block = 0;
  size_t last = 0;  // with any weight: rounding may leave `left` above 0 at the end
  for (; block < scratch.block_sum.size(); ++block) {
    if (scratch.block_sum[block] > 0) last = block;
    if (left < scratch.block_sum[block]) break;
    left -= scratch.block_sum[block];
  }
  if (block == scratch.block_sum.size()) block = last;
  const size_t end = std::min(logits.size(), (block + 1) * kLogitBlock);
  size_t chosen = block * kLogitBlock;
  for (size_t i = chosen; i < end; ++i) {
    const auto weight = static_cast<double>(scratch.weights[i]);
    if (weight <= 0) continue;
    chosen = i;
    if (left < weight) break;
    left -= weight;
  }
  return static_cast<TokenId>(chosen);
}

// In order of rank, among the few that top_k, top_p and min_p leave.
TokenId Sampler::draw_from_best(std::span<const float> logits, float max, const SamplingParams& p,
                                double uniform, Scratch& scratch) {
  const float scale = 1 / p.temperature;
  const auto vocab = static_cast<int64_t>(logits.size());
  std::vector<Candidate>& best = scratch.candidates;
  const auto weight = [&](const Candidate& c) { return exp_weight(c.logit, max, scale); };
  const bool by_count = p.top_k > 0 && p.top_k < vocab;

  size_t keep = 0;
  if (by_count || p.top_p < 1) {
    // Without top_k the mass is that of the whole row, and the count that reaches top_p is found by trying.
    const double whole = by_count ? 0 : exp_sum(logits, max, scale);
    for (int64_t count = by_count ? p.top_k : 64;; count *= 8) {
      best_candidates(logits, scratch.block_max, scratch.block_scratch, count, best);
      double mass = whole;
      if (by_count) {
        for (const Candidate& c : best) mass += static_cast<double>(weight(c));
      }
      double sum = 0;
      keep = 0;
      while (keep < best.size() && (keep == 0 || p.top_p >= 1 || sum < static_cast<double>(p.top_p) * mass)) {
        sum += static_cast<double>(weight(best[keep++]));
      }
      const bool reached = p.top_p >= 1 || sum >= static_cast<double>(p.top_p) * mass;
      if (by_count || reached || count >= vocab) break;
    }
  } else {
    // A margin for the rounding of the logarithm; the exact test follows.
    candidates_from(logits, scratch.block_max, max + (std::log(p.min_p) - 0.01f) * p.temperature, best);
    keep = best.size();
  }
  while (keep > 1 && weight(best[keep - 1]) < p.min_p) --keep;

  double total = 0;
  for (size_t i = 0; i < keep; ++i) total += static_cast<double>(weight(best[i]));
  double left = uniform * total;
  for (size_t i = 0; i < keep; ++i) {
    const auto w = static_cast<double>(weight(best[i]));
    if (left < w) return best[i].id;
    left -= w;
  }
  return best[keep - 1].id;
}

}  // namespace gantry

#include "sample/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/limits.h"
#include "sample/exp_weights.h"
#include "sample/philox.h"

namespace gantry {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float max_of(std::span<const float> block_max) {
  return *std::max_element(block_max.begin(), block_max.end());
}

TokenId first_equal(std::span<const float> logits, std::span<const float> block_max, float max) {
  const auto block = std::find(block_max.begin(), block_max.end(), max) - block_max.begin();
  const auto at = std::find(logits.begin() + block * kLogitBlock, logits.end(), max);
  return static_cast<TokenId>(at - logits.begin());
}

// How many of the leading candidates (sorted) hold at least `mass`; all of them if they do not.
size_t count_of_mass(std::span<const Candidate> sorted, double mass, float max, float scale, double& held) {
  size_t count = 0;
  held = 0;
  while (count < sorted.size() && (count == 0 || held < mass)) {
    held += static_cast<double>(exp_weight(sorted[count++].logit, max, scale));
  }
  return count;
}

// The same without sorting all: quickselect by mass. The candidates are reordered.
Candidate last_of_mass(std::span<Candidate> candidates, double mass, float max, float scale) {
  constexpr size_t kSortable = 64;
  double before = 0;
  while (candidates.size() > kSortable) {
    const size_t half = candidates.size() / 2;
    std::nth_element(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(half),
                     candidates.end(), better);
    double held = 0;
    for (const Candidate& c : candidates.first(half))
      held += static_cast<double>(exp_weight(c.logit, max, scale));
    if (before + held >= mass) {
      candidates = candidates.first(half);
    } else {
      before += held;
      candidates = candidates.subspan(half);
    }
  }
  std::sort(candidates.begin(), candidates.end(), better);
  double held = 0;
  return candidates[count_of_mass(candidates, mass - before, max, scale, held) - 1];
}

}  // namespace

bool penalises(const SamplingParams& p) {
  return p.repetition_penalty != 1 || p.presence_penalty != 0 || p.frequency_penalty != 0;
}

std::vector<TokenId> end_tokens(const SamplingParams& p, int64_t vocab) {
  std::vector<TokenId> ids = p.stop_token_ids;
  if (!p.ignore_eos) ids.insert(ids.end(), p.eos_token_ids.begin(), p.eos_token_ids.end());
  std::erase_if(ids, [vocab](TokenId id) { return id < 0 || id >= vocab; });
  return ids;
}

SamplerState::SamplerState(std::shared_ptr<const GenerateRequest> request, int32_t choice,
                           std::span<const TokenId> generated, int64_t vocab)
    : request_(std::move(request)), choice_(choice) {
  const SamplingParams& p = params();
  if (penalises()) {
    const size_t tokens = prompt().size() + static_cast<size_t>(p.max_tokens);
    counts_.reserve(std::min(tokens, static_cast<size_t>(vocab)));
    for (const TokenId id : prompt()) counts_.add_prompt(id);
  }
  if (p.min_tokens > 0) end_tokens_ = end_tokens(p, vocab);
  for (const TokenId id : generated) push(id);
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

Sample Sampler::draw(std::span<const float> logits, const SamplerState& state, int32_t position,
                     std::span<TokenLogprob> top, int thread) {
  return draw_with(logits, state, position, state.params().logprobs, top, thread);
}

TokenId Sampler::draft(std::span<const float> logits, const SamplerState& state, int32_t position,
                       int thread) {
  const Sample sample = draw_with(logits, state, position, -1, {}, thread);
  return sample.error == SampleError::kNone ? sample.token : 0;
}

Sample Sampler::draw_with(std::span<const float> raw, const SamplerState& state, int32_t position,
                          int32_t logprobs, std::span<TokenLogprob> top, int thread) {
  Scratch& scratch = scratch_[static_cast<size_t>(thread)];
  const SamplingParams& p = state.params();
  Sample sample;
  if (!block_maxima(raw, scratch.block_max)) {
    sample.error = SampleError::kLogitsNotFinite;
    return sample;
  }
  float max = max_of(scratch.block_max);
  float logsumexp = 0;
  if (logprobs >= 0 && max > -kInfinity) {
    logsumexp = static_cast<float>(max + std::log(exp_sum(raw, max, 1)));
    sample.tops = best(raw, logsumexp, logprobs, scratch, top);
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
                       : draw_down_to(logits, max, 1 / p.temperature, worst_kept(logits, max, p, scratch),
                                      uniform, scratch);
  }
  if (logprobs >= 0) sample.logprob = raw[static_cast<size_t>(sample.token)] - logsumexp;
  return sample;
}

// Blocks first, then within the block.
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

Candidate Sampler::worst_kept(std::span<const float> logits, float max, const SamplingParams& p,
                              Scratch& scratch) {
  // Few candidates reach most of the mass, mostly: these counts are tried before all are collected.
  constexpr std::array<int64_t, 2> kCounts{64, 512};
  const float scale = 1 / p.temperature;
  const auto vocab = static_cast<int64_t>(logits.size());
  std::vector<Candidate>& best = scratch.candidates;
  const auto weight = [&](const Candidate& c) { return exp_weight(c.logit, max, scale); };
  const auto last_by_min_p = [&](size_t keep) {
    while (keep > 1 && weight(best[keep - 1]) < p.min_p) --keep;
    return best[keep - 1];
  };

  double held = 0;
  if (p.top_k > 0 && p.top_k < vocab) {
    best_candidates(logits, scratch.block_max, scratch.block_scratch, p.top_k, best);
    double mass = 0;
    for (const Candidate& c : best) mass += static_cast<double>(weight(c));
    return last_by_min_p(p.top_p < 1 ? count_of_mass(best, p.top_p * mass, max, scale, held) : best.size());
  }
  const double mass = p.top_p < 1 ? p.top_p * exp_sum(logits, max, scale) : 0;
  if (p.top_p < 1) {
    for (const int64_t count : kCounts) {
      best_candidates(logits, scratch.block_max, scratch.block_scratch, count, best);
      const size_t keep = count_of_mass(best, mass, max, scale, held);
      if (held >= mass) return last_by_min_p(keep);
    }
  }
  // Those with any weight, and of at least min_p (with a margin for the logarithm's rounding: the test is exact).
  const float lowest = p.min_p > 0 ? std::log(p.min_p) - 0.01f : -88.0f;
  candidates_from(logits, scratch.block_max, max + lowest * p.temperature, best);
  std::erase_if(best, [&](const Candidate& c) { return weight(c) < p.min_p; });
  if (p.top_p < 1) return last_of_mass(best, mass, max, scale);
  return *std::max_element(best.begin(), best.end(), better);  // the worst: `better` sorts the best first
}

TokenId Sampler::draw_down_to(std::span<const float> logits, float max, float scale, const Candidate& worst,
                              double uniform, const Scratch& scratch) {
  // Visits the kept tokens in order of id until `visit` returns true.
  const auto each_kept = [&](auto visit) {
    for (size_t b = 0; b < scratch.block_max.size(); ++b) {
      if (scratch.block_max[b] < worst.logit) continue;
      const size_t end = std::min(logits.size(), (b + 1) * kLogitBlock);
      for (size_t i = b * kLogitBlock; i < end; ++i) {
        const Candidate c{logits[i], static_cast<TokenId>(i)};
        if (better(worst, c)) continue;
        if (visit(c.id, static_cast<double>(exp_weight(c.logit, max, scale)))) return;
      }
    }
  };
  double total = 0;
  each_kept([&](TokenId, double weight) {
    total += weight;
    return false;
  });
  double left = uniform * total;
  TokenId chosen = worst.id;  // the last with any weight, if rounding leaves `left` above 0
  each_kept([&](TokenId id, double weight) {
    if (weight > 0) chosen = id;
    const bool found = left < weight;
    left -= weight;
    return found;
  });
  return chosen;
}

}  // namespace gantry

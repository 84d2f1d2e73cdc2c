// Draws tokens from rows of logits.
//
// The token at position p is a function of (logits row, parameters, tokens before p, seed, choice, p) alone,
// drawn from the full target distribution by inversion with the number uniform_at(seed, choice, p). A
// speculative draft is accepted if and only if it equals that token, so drafts never change the text.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "protocol/replica_client.h"
#include "sample/candidates.h"
#include "sample/token_counts.h"

namespace gantry {

// Below this temperature sampling is greedy (vLLM's _SAMPLING_EPS).
inline constexpr float kTemperatureMin = 1e-5f;

bool penalises(const SamplingParams& params);
// What min_tokens masks: every entry in [0, vocab).
std::vector<TokenId> end_tokens(const SamplingParams& params, int64_t vocab);

// What sampling remembers of one sequence.
class SamplerState {
 public:
  SamplerState() = default;
  // `generated`: the tokens so far.
  SamplerState(std::shared_ptr<const GenerateRequest> request, int32_t choice,
               std::span<const TokenId> generated, int64_t vocab);

  void push(TokenId token);
  const SamplingParams& params() const { return request_->params; }
  const std::vector<TokenId>& prompt() const { return request_->prompt; }
  int32_t choice() const { return choice_; }
  TokenId last_token() const { return last_token_; }

 private:
  friend class Sampler;
  bool penalises() const { return gantry::penalises(params()); }

  std::shared_ptr<const GenerateRequest> request_;
  int32_t choice_ = 0;
  TokenId last_token_ = -1;
  int32_t generated_ = 0;
  TokenCounts counts_;               // filled only where a penalty asks for it
  std::vector<TokenId> end_tokens_;  // masked before min_tokens
};

struct Sample {
  TokenId token = -1;
  float logprob = 0;  // of the raw logits; only if asked for
  int32_t tops = 0;   // written to `top`
  SampleError error = SampleError::kNone;
};

// Stateless but for scratch memory, one set per thread.
class Sampler {
 public:
  Sampler(int64_t vocab, int threads);

  // The next token, at `position` in prompt and output. logits [vocab], raw. top: room for
  // limits::kTopLogprobsMax, filled best first with params.logprobs entries. Order of steps as in vLLM:
  // logit_bias, the mask of end tokens, penalties, temperature, top_k, top_p, min_p. Ties go to the lower id.
  Sample draw(std::span<const float> logits, const SamplerState& state, int32_t position,
              std::span<TokenLogprob> top, int thread);
  // The same of a draft module's logits, drawn with the same number, so that it is the target's token as often as
  // the two distributions allow (inversion couples them); without logprobs. Token 0 where nothing can be drawn.
  TokenId draft(std::span<const float> logits, const SamplerState& state, int32_t position, int thread);
  // The log-probability of a given token, and the `tops` best.
  Sample score(std::span<const float> logits, TokenId token, int32_t tops, std::span<TokenLogprob> top,
               int thread);

 private:
  struct Scratch {
    std::vector<float> logits;          // [vocab] adjusted
    std::vector<float> weights;         // [vocab]
    std::vector<float> block_max;       // [logit_blocks]
    std::vector<float> block_scratch;   // [logit_blocks]
    std::vector<double> block_sum;      // [logit_blocks]
    std::vector<Candidate> candidates;  // at most [vocab]
  };
  Sample draw_with(std::span<const float> logits, const SamplerState& state, int32_t position,
                   int32_t logprobs, std::span<TokenLogprob> top, int thread);
  static bool adjusts(const SamplerState& state);
  static void adjust(const SamplerState& state, std::span<float> logits);
  static int32_t best(std::span<const float> logits, float logsumexp, int32_t tops, Scratch& scratch,
                      std::span<TokenLogprob> top);
  static TokenId draw_from_all(std::span<const float> logits, float max, float scale, double uniform,
                               Scratch& scratch);
  // The last of those that top_k, top_p and min_p keep, in order of rank.
  static Candidate worst_kept(std::span<const float> logits, float max, const SamplingParams& params,
                              Scratch& scratch);
  static TokenId draw_down_to(std::span<const float> logits, float max, float scale, const Candidate& worst,
                              double uniform, const Scratch& scratch);

  std::vector<Scratch> scratch_;
};

}  // namespace gantry

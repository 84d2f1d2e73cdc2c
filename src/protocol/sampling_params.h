// How the tokens of one request are chosen. Validated at the edge; the engine takes these values as they are.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/status.h"

namespace gantry {

struct SamplingParams {
  int32_t n = 1;                    // choices, 1 .. limits::kChoicesMax
  int32_t max_tokens = 0;           // tokens to generate per choice, >= 1 (0 only with prompt_logprobs >= 0)
  int32_t min_tokens = 0;           // end tokens are masked before this many
  float temperature = 1.0f;         // 0 is greedy; 0 .. 2
  float top_p = 1.0f;               // (0, 1]
  int32_t top_k = 0;                // 0 keeps all
  float min_p = 0.0f;               // [0, 1]: drops tokens under min_p x the best one's probability
  uint64_t seed = 0;                // the edge draws one where the client gave none
  float presence_penalty = 0.0f;    // -2 .. 2, over generated tokens
  float frequency_penalty = 0.0f;   // -2 .. 2, over generated tokens
  float repetition_penalty = 1.0f;  // (0, 2], over prompt and generated tokens
  std::vector<std::pair<TokenId, float>> logit_bias;  // -100 .. 100
  int32_t logprobs = -1;         // -1 none; else the chosen token's and this many best (0 .. kTopLogprobsMax)
  int32_t prompt_logprobs = -1;  // the same for prompt positions (echo)
  std::vector<TokenId> stop_token_ids;  // end the choice, beside the model's own
  std::vector<TokenId> eos_token_ids;   // the model's own end tokens
  bool ignore_eos = false;              // eos_token_ids do not end it (stop_token_ids still do)
};

// Why no token could be drawn.
enum class SampleError : uint8_t {
  kNone,
  kLogitsNotFinite,  // NaN or +infinity among the raw logits
  kNothingLeft,      // every token is masked
};

// kInvalidArgument unless every field is in the range of its comment and every id in [0, vocab_size); param()
// is the OpenAI field's name. Ids of the model's own (eos_token_ids) may lie outside: they never match.
Status validate(const SamplingParams& params, int64_t vocab_size);

}  // namespace gantry

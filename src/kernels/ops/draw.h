// Drawing tokens where the logits are: for a backend whose memory the host does not reach. What is drawn is what
// sample/sampler.h draws of the same logits.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

#include "base/ids.h"
#include "base/limits.h"

namespace gantry {

// One row of logits: a token to draw, or one to score.
struct DrawRow {
  double uniform = 0;     // in (0, 1): the row's random number
  int32_t slot = 0;       // of its sequence, started with SlotStart
  TokenId score = -1;     // >= 0: only this token's log-probability is wanted
  int32_t logprobs = -1;  // -1: none; else the token's, and this many best
  int32_t top_k = 0;      // 0: all; less than the vocabulary
  float top_p = 1;
  float min_p = 0;
  float inverse_temperature = 0;  // 0: greedy
  float presence_penalty = 0;
  float frequency_penalty = 0;
  float repetition_penalty = 1;
  int32_t bias = 0;        // 1: the slot's biases are added
  int32_t masks_ends = 0;  // 1: the slot's end tokens are masked
  int32_t penalises = 0;   // 1: by the slot's counts
  int32_t reserved = 0;
};

struct DrawnTop {
  TokenId id = -1;
  float logprob = 0;
};
// What came of a row.
struct Drawn {
  TokenId token = -1;
  float logprob = 0;
  int32_t tops = 0;
  int32_t error = 0;  // SampleError
  DrawnTop top[limits::kTopLogprobsMax] = {};
};

struct DrawArgs {
  const float* logits = nullptr;  // [M, vocab] in the backend's memory; null: what the step's head() has left
  int64_t vocab = 0;
  std::span<const DrawRow> rows{};  // StepInputs::draws
};

inline constexpr size_t kSlotEndTokensMax = limits::kStopTokenIdsMax + limits::kModelEosIdsMax;

// A sequence takes the slot: what is known of it before its first row.
struct SlotStart {
  int32_t slot = 0;
  bool penalises = false;             // the tokens below are counted
  std::span<const TokenId> prompt{};  // each in [0, vocab)
  std::span<const TokenId> generated{};
  std::span<const std::pair<TokenId, float>> biases{};  // at most kLogitBiasMax
  std::span<const TokenId> end_tokens{};                // at most kSlotEndTokensMax
};

// An id of StepInputs that is less than 0: the token that slot -1 - id has drawn last.
inline constexpr int32_t last_drawn(int32_t slot) { return -1 - slot; }

}  // namespace gantry

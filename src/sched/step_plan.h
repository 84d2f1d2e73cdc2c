// One micro-batch: what every rank runs for one ticket, and what comes back. A plan is complete in itself (a
// rank needs nothing else) and changes nothing on a device until it is run.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/ids.h"
#include "protocol/replica_client.h"

namespace gantry {

// A sequence takes a slot of the batch: its rows of block tables, sampler state and last tokens on every
// rank. What the slot held before is forgotten.
struct SequenceStart {
  SeqId sequence;
  int32_t slot = 0;
  int32_t choice = 0;
  std::shared_ptr<const GenerateRequest> request;
  std::vector<TokenId> generated;  // so far: resubmitted, or before a preemption
};

// Rows of one sequence in the micro-batch.
struct PlanRows {
  SeqId sequence;
  int32_t slot = 0;
  int32_t first_row = 0;  // into StepPlan::ids
  int32_t rows = 0;
  // With `awaits`: the greatest that it can be; it is less by the drafts which that ticket rejects, and the
  // ids (all kTokenOnDevice) are the token that ticket sampled for this sequence and the drafts after it.
  int32_t first_position = 0;
  Ticket awaits;  // 0: nothing
  // New blocks: StepPlan::blocks[first_block ...] become entries [table_index ...) of the slot's table.
  int32_t first_block = 0;
  int32_t new_blocks = 0;
  int32_t table_index = 0;
  // The last `sampled` rows give tokens: 0 within a prompt, else 1 + drafts.
  int32_t sampled = 0;
  // The slot's blocks hold positions [0, reserved): the new token's and its drafts' entries lie below it.
  int32_t reserved = 0;
  // Rows [score_first, score_first + scores) each score the prompt token after them (echo).
  int32_t score_first = 0;
  int32_t scores = 0;
};

inline constexpr TokenId kTokenOnDevice = -1;

struct StepPlan {
  Ticket ticket;
  std::vector<SequenceStart> starts;
  std::vector<PlanRows> sequences;
  std::vector<TokenId> ids;     // [R]
  std::vector<BlockId> blocks;  // new in this plan
  int32_t logit_rows = 0;       // sum of sampled and scores

  void clear();  // keeps the memory
};

struct SampledToken {
  TokenId id = -1;
  float logprob = 0;
  int32_t first_top = 0;  // StepResult::top[first_top, first_top + tops)
  int32_t tops = 0;
};

// One entry for each of the plan's sequences that sampled or scored, in the plan's order.
struct SequenceResult {
  SeqId sequence;
  SampleError error = SampleError::kNone;
  int32_t first_token = 0;  // StepResult::tokens[first_token, first_token + accepted)
  int32_t accepted = 0;     // 1 .. sampled where the plan sampled and nothing failed
  int32_t first_score = 0;  // StepResult::scores[first_score, first_score + scores)
  int32_t scores = 0;
  int32_t score_position = 0;  // prompt position of the first of them
  int32_t first_draft = 0;     // StepResult::drafts[first_draft, first_draft + drafts)
  int32_t drafts = 0;          // where the plan sampled
};

struct StepResult {
  Ticket ticket;
  std::vector<SequenceResult> sequences;
  std::vector<SampledToken> tokens;
  std::vector<SampledToken> scores;
  std::vector<TokenLogprob> top;
  // What the draft module takes for the tokens after a sequence's last: the ids of its next plan's further rows
  // (kTokenOnDevice), for ranks that do not draft.
  std::vector<TokenId> drafts;

  void clear();  // keeps the memory
};

}  // namespace gantry

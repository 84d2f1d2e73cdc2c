// One choice of one request inside the engine, and what its choices share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/ids.h"
#include "cache/block_pool.h"
#include "cache/prefix_index.h"
#include "protocol/replica_client.h"

namespace gantry {

enum class SequenceState : uint8_t {
  kWaiting,   // holds no slot and no blocks; preempted, it may still be in flight
  kRunning,   // holds a slot
  kFinished,  // takes no further token; may still be in flight
};

struct RequestState;

struct Sequence {
  SeqId id;
  RequestState* request = nullptr;
  int32_t choice = 0;
  SequenceState state = SequenceState::kWaiting;
  std::vector<TokenId> generated;  // resubmitted ones included

  // Positions [0, computed) lie in the cache for good; [computed, planned) are in flight. With drafts in
  // flight `planned` is the most that it can be.
  int32_t computed = 0;
  int32_t planned = 0;
  int32_t sampling = 0;   // tickets in flight that will give it tokens
  int32_t in_flight = 0;  // tickets in flight
  Ticket last_ticket;     // newest ticket it was in

  uint32_t run = 0;  // preemptions so far: results of rows that were planned in an earlier run are dropped
  int32_t slot = -1;
  bool on_ranks = false;          // they know this sequence by its slot
  bool sampled_on_ranks = false;  // they have its last token, and drafts after it
  std::vector<BlockId> blocks;    // block i holds positions [64 i, 64 i + 64)
  int32_t blocks_on_ranks = 0;    // of them the ranks know
  int32_t blocks_promised = 0;    // promised, not yet allocated
  std::vector<BlockHash> hashes;  // hashes[0] is the root, hashes[i + 1] of block i
  int32_t published = 0;          // leading blocks that were offered to the prefix index
  int32_t cached_prompt_tokens = 0;

  int64_t started_ns = 0;      // first taken up
  int64_t first_token_ns = 0;  // first token since submit()
  bool announced = false;      // its first event has been sent

  inline const GenerateRequest& spec() const;
  int32_t prompt_length() const { return static_cast<int32_t>(spec().prompt.size()); }
  // Tokens known now.
  int32_t length() const { return prompt_length() + static_cast<int32_t>(generated.size()); }
  TokenId token(int32_t position) const {
    const int32_t prompt = prompt_length();
    return position < prompt ? spec().prompt[static_cast<size_t>(position)]
                             : generated[static_cast<size_t>(position - prompt)];
  }
  // Positions that are ever computed: the last token of max_tokens is not fed back.
  int32_t positions_max() const { return prompt_length() + std::max(spec().params.max_tokens, 1) - 1; }
  // Rows that could be planned now, `lookahead` counting the token that is being sampled as one.
  int32_t rows_left(bool lookahead) const;

  // Appends the token unless it ends the sequence; kNone to go on.
  struct Verdict {
    FinishReason finish = FinishReason::kNone;
    bool appended = false;
  };
  Verdict accept(TokenId token);
};

struct RequestState {
  std::shared_ptr<const GenerateRequest> spec;
  uint64_t arrival = 0;
  BlockPool::Owner block_owner = BlockPool::kNobody;
  int64_t cost = 0;       // service that is expected (sched/fair_share.h)
  int64_t share_tag = 0;  // where its tenant's share puts it
  int64_t submitted_ns = 0;
  std::vector<std::unique_ptr<Sequence>> choices;  // null: done and out of flight
  int32_t open = 0;                                // choices that are not finished
  int64_t served = 0;                              // service that it has had
  bool taken_up = false;                           // a choice was admitted: no longer counts as waiting
  // Prompt logprobs: position of the next one to plan and to receive; the prompt's length when done.
  int32_t scores_planned = 1;
  PromptLogprobs scores;

  bool wants_scores() const { return spec->params.prompt_logprobs >= 0; }
  int32_t scores_received() const { return static_cast<int32_t>(scores.tokens.size()) + 1; }
};

const GenerateRequest& Sequence::spec() const { return *request->spec; }

}  // namespace gantry

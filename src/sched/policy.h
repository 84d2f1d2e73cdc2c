// The scheduler's decisions as functions of plain values, so that each can be read, tested and replaced
// alone.
#pragma once

#include <cstdint>

#include "sched/sequence.h"

namespace gantry {

// Blocks of a sequence beside those that it finds in the prefix cache.
struct BlockDemand {
  int32_t cached_free = 0;  // of those found: they are taken out of the free ones too
  int32_t known = 0;        // for the tokens that it has
  int32_t most = 0;         // for all that it can ever have
};
struct BlockSupply {
  int32_t available = 0;  // free now
  int32_t promised = 0;   // of them, to sequences that run
  int32_t running = 0;    // sequences
};
inline constexpr int32_t kNotNow = -1;

// A prompt that wants rows of the plan that is being filled.
struct ChunkDemand {
  int32_t wanted = 0;
  int32_t budget = 0;    // rows left in the plan
  int32_t position = 0;  // of the first of them
  bool decodes = false;  // the plan has decodes, whose tokens wait until it has run
  int32_t spent = 0;     // of ChunkLimits::rows_beside_decodes, by prompts in the plan
};
struct ChunkLimits {
  int32_t rows_beside_decodes = 0;  // prompt rows, each weighted by chunk_cost(); 0: no limit
  int32_t context_per_row =
      0;  // attention over so many tokens takes as long as the rest of a row; 0: nothing
};

struct Policies {
  // How many blocks are promised to a sequence that starts, or kNotNow. Beyond its promise it may have to
  // wait, or be preempted by one that comes before it.
  int32_t (*admit)(const BlockDemand&, const BlockSupply&);
  // Which of two waiting sequences is first. A strict weak order.
  bool (*before)(const Sequence&, const Sequence&);
  // Rows of a prefill chunk: at most `wanted`, at most `budget`.
  int32_t (*prefill_chunk)(const ChunkDemand&, const ChunkLimits&);
};

// For the tokens that it has, with one block to spare for each sequence that runs: outputs are mostly far
// shorter than max_tokens allows.
int32_t admit_what_is_known(const BlockDemand& demand, const BlockSupply& supply);
// Nothing starts that could run out of blocks, so that nothing is ever preempted.
int32_t admit_if_it_can_end(const BlockDemand& demand, const BlockSupply& supply);
// By priority, then by the tenant's share (sched/fair_share.h), then by arrival, then by choice.
bool by_priority_and_share(const Sequence& a, const Sequence& b);
// Rows of `rows` from `position` on, in rows without attention.
int32_t chunk_cost(int32_t position, int32_t rows, const ChunkLimits& limits);
// Beside decodes, as many rows as keep the step short; at least one, so that a prompt always gets on. One prompt takes
// half of what there is, so that a short one starts beside a long one.
int32_t chunk_spares_decodes(const ChunkDemand& demand, const ChunkLimits& limits);

inline constexpr Policies kDefaultPolicies{admit_what_is_known, by_priority_and_share, chunk_spares_decodes};

}  // namespace gantry

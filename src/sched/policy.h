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

struct Policies {
  // How many blocks are promised to a sequence that starts, or kNotNow. Beyond its promise it may have to
  // wait, or be preempted by one that comes before it.
  int32_t (*admit)(const BlockDemand&, const BlockSupply&);
  // Which of two waiting sequences is first. A strict weak order.
  bool (*before)(const Sequence&, const Sequence&);
  // Rows of a prefill chunk: at most `wanted`, at most `budget`; `decodes` rows are in the plan already.
  int32_t (*prefill_chunk)(int32_t wanted, int32_t budget, int32_t decodes);
};

// For the tokens that it has, with one block to spare for each sequence that runs: outputs are mostly far
// shorter than max_tokens allows.
int32_t admit_what_is_known(const BlockDemand& demand, const BlockSupply& supply);
// Nothing starts that could run out of blocks, so that nothing is ever preempted.
int32_t admit_if_it_can_end(const BlockDemand& demand, const BlockSupply& supply);
// By priority, then by arrival, then by choice.
bool by_priority_and_arrival(const Sequence& a, const Sequence& b);
int32_t chunk_fills_budget(int32_t wanted, int32_t budget, int32_t decodes);

inline constexpr Policies kDefaultPolicies{admit_what_is_known, by_priority_and_arrival, chunk_fills_budget};

}  // namespace gantry

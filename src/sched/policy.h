// The scheduler's decisions as functions of plain values, so that each can be read, tested and replaced
// alone.
#pragma once

#include <cstdint>

#include "sched/sequence.h"

namespace gantry {

struct BlockDemand {
  int32_t now = 0;   // blocks that its first chunk takes from the free ones
  int32_t most = 0;  // and all that it can ever take
};
struct BlockSupply {
  int32_t available = 0;  // free now
  int32_t promised = 0;   // of them, to sequences that run
};

struct Policies {
  // Whether a sequence may start.
  bool (*admit)(const BlockDemand&, const BlockSupply&);
  // Which of two waiting sequences is first. A strict weak order.
  bool (*before)(const Sequence&, const Sequence&);
  // Rows of a prefill chunk: at most `wanted`, at most `budget`; `decodes` rows are in the plan already.
  int32_t (*prefill_chunk)(int32_t wanted, int32_t budget, int32_t decodes);
};

// Nothing starts that could run out of blocks: whatever runs can end, whatever the others do.
bool admit_if_it_can_end(const BlockDemand& demand, const BlockSupply& supply);
// By priority, then by arrival, then by choice.
bool by_priority_and_arrival(const Sequence& a, const Sequence& b);
int32_t chunk_fills_budget(int32_t wanted, int32_t budget, int32_t decodes);

inline constexpr Policies kDefaultPolicies{admit_if_it_can_end, by_priority_and_arrival, chunk_fills_budget};

}  // namespace gantry

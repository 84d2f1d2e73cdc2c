#include "sched/policy.h"

#include <algorithm>
#include <tuple>

namespace gantry {

int32_t admit_what_is_known(const BlockDemand& demand, const BlockSupply& supply) {
  const int32_t needed = demand.cached_free + demand.known + supply.running;
  return needed <= supply.available - supply.promised ? demand.known : kNotNow;
}

int32_t admit_if_it_can_end(const BlockDemand& demand, const BlockSupply& supply) {
  return demand.cached_free + demand.most <= supply.available - supply.promised ? demand.most : kNotNow;
}

bool by_priority_and_share(const Sequence& a, const Sequence& b) {
  return std::tuple(a.spec().priority, a.request->share_tag, a.request->arrival, a.choice) <
         std::tuple(b.spec().priority, b.request->share_tag, b.request->arrival, b.choice);
}

int32_t chunk_cost(int32_t position, int32_t rows, const ChunkLimits& limits) {
  if (limits.context_per_row <= 0) return rows;
  // Row i attends to position + i tokens.
  const double attended = static_cast<double>(rows) * (position + rows * 0.5);
  return rows + static_cast<int32_t>(std::min(attended / limits.context_per_row, 1e9));
}

int32_t chunk_spares_decodes(const ChunkDemand& demand, const ChunkLimits& limits) {
  const int32_t most = std::min(demand.wanted, demand.budget);
  if (!demand.decodes || limits.rows_beside_decodes <= 0 || most <= 1) return most;
  const int32_t left = limits.rows_beside_decodes - demand.spent;
  if (left <= 0) return 0;
  const int32_t share = std::max(1, demand.spent == 0 ? (left + 1) / 2 : left);
  // chunk_cost() grows with the rows: the largest number within the share.
  int32_t low = 1;
  int32_t high = std::min(most, share);
  while (low < high) {
    const int32_t middle = low + (high - low + 1) / 2;
    if (chunk_cost(demand.position, middle, limits) <= share) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

}  // namespace gantry

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

bool by_priority_and_arrival(const Sequence& a, const Sequence& b) {
  return std::tuple(a.spec().priority, a.request->arrival, a.choice) <
         std::tuple(b.spec().priority, b.request->arrival, b.choice);
}

int32_t chunk_fills_budget(int32_t wanted, int32_t budget, int32_t) { return std::min(wanted, budget); }

}  // namespace gantry

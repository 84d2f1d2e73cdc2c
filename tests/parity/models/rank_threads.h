// Ranks of a split model as threads of a test; what they exchange goes through shared memory.
#pragma once

#include <functional>

#include "model/rank_groups.h"

namespace gantry::testing {

// run(groups) on a thread for each rank; returns when all have.
void run_ranks(const ParallelSizes& sizes, const std::function<void(const RankGroups&)>& run);

}  // namespace gantry::testing

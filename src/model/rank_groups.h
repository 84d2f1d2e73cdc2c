// A rank's place in a replica that is split over several, and its ends of the groups that it exchanges with.
#pragma once

#include "comm/communicator.h"
#include "model/parallel_layout.h"

namespace gantry {

struct RankGroups {
  ParallelSizes sizes;
  int32_t rank = 0;                // ParallelLayout::place()
  Communicator* tensor = nullptr;  // the ranks of its stage, by tensor rank; null where there is one
  Communicator* all = nullptr;     // every rank of the replica; null with one stage
};

}  // namespace gantry

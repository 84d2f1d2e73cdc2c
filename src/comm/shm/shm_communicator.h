// Ranks that are processes (or threads) of one host, over a Segment.
//
// An exchange: each rank copies its chunk to its slot, advances its `arrived` counter and reads the others'
// slots when theirs have come as far. Slots alternate, so that one counter is enough: a rank writes exchange
// n + 2 only after every rank has arrived at n + 1, which each does after reading n.
#pragma once

#include <chrono>
#include <memory>
#include <string_view>
#include <vector>

#include "comm/communicator.h"
#include "comm/shm/segment.h"

namespace gantry {

struct ShmOptions {
  // The longest wait for a peer within a call; a rank that has ended is named at once.
  std::chrono::milliseconds deadline{30'000};
  // How long a waiting rank polls before it sleeps: 0 where ranks outnumber cores.
  std::chrono::microseconds spin{20};
  // What the group's rank 0 is called in messages; the others follow.
  int first_rank = 0;
};

// The segment's descriptor comes from the parent. Waits until every rank has attached. kInvalidArgument for
// a rank outside of the segment's or one that is taken.
Result<std::unique_ptr<Communicator>> open_shm_communicator(int fd, int rank, const ShmOptions& options);

// Communicator::abort() by who made the segment and is no rank, even while ranks are still to come.
void abort_group(shm::Segment& segment, std::string_view reason);

}  // namespace gantry

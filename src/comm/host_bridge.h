// A group whose ranks share memory within a host and have connections between hosts: one communicator of both.
#pragma once

#include <memory>

#include "comm/communicator.h"

namespace gantry {

struct HostBridge {
  Communicator* near = nullptr;  // of the ranks [near_first, near_first + near->size())
  int near_first = 0;
  Communicator* far = nullptr;  // of all ranks, connected to those that are not near
};

// The parts outlive it. Made for what goes from stage to stage, send() and receive(); the collectives are built of those, pair by pair.
std::unique_ptr<Communicator> bridge_hosts(const HostBridge& parts);

}  // namespace gantry

// The hosts on which the ranks of a replica run: as many ranks on each, in order, rank 0 on this one.
#pragma once

#include <chrono>
#include <optional>

#include "comm/tcp/endpoint.h"
#include "comm/tcp/secret.h"

namespace gantry {

struct GroupHosts {
  int32_t count = 1;
  // Where the agents of the others come to (runtime/agent): an address of this host. Its ranks listen there too, on ports
  // of their own.
  tcp::Endpoint rendezvous{"127.0.0.1", 0};
  std::optional<tcp::Secret> secret{};  // that all hosts have; with one there is no need
  std::chrono::seconds wait{600};       // for the agents to come
  // False: the ranks of a host exchange over TCP too.
  bool memory = true;
};

}  // namespace gantry

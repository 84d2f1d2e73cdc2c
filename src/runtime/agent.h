// The agent of a host that is not rank 0's: starts that host's ranks at rank 0's word, watches them, and ends them with it.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/status.h"
#include "comm/tcp/endpoint.h"
#include "comm/tcp/secret.h"

namespace gantry {

struct AgentOptions {
  int32_t number = 1;  // of this host; rank 0's is 0
  tcp::Endpoint rendezvous;
  tcp::Secret secret;
  std::vector<std::string> command;  // absolute path and arguments of a process that calls run_follower()
  std::string model;                 // where the weights lie on this host
  std::string version;
  std::chrono::seconds wait{600};  // for rank 0 to be there
  std::chrono::seconds lease{60};  // for it to come back, once it was
  int stop = -1;                   // a descriptor: readable when the agent shall end
};

// Until `stop`, or until rank 0 has not been there for as long as said: the ranks that it started have ended then. Errors: it
// was never there, has another secret, or refused the host.
Status run_agent(const AgentOptions& options);

}  // namespace gantry

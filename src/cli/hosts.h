// The hosts of a deployment as the flags and the environment describe them.
#pragma once

#include "base/status.h"
#include "cli/serve_options.h"
#include "control/env_placement.h"
#include "runtime/group_hosts.h"

namespace gantry::cli {

// This process's place; one host with --placement local. Errors name the variable or flag, and what would be right: also
// where the ranks cannot lie on these hosts, or no secret is given.
Result<HostPlace> host_place(const ServeOptions& options);
// What a group of ranks starts with, on host 0.
Result<GroupHosts> group_hosts(const ServeOptions& options);
// Runs the agent of a host other than 0 until SIGTERM, SIGINT, or the end of its lease. An exit code. model: where the
// weights lie here, resolved or fetched first; empty: where rank 0 has them.
int run_host_agent(const ServeOptions& options, const HostPlace& place, const std::string& model);

}  // namespace gantry::cli

// `gantry rank`: one rank of a replica that is split over several, in a process of its own. The process with rank 0 starts
// it and talks to it over the descriptors that it inherits.
#include <cstdio>
#include <cstdlib>

#include "cli/commands.h"
#include "cli/model_host.h"
#include "runtime/follower.h"

namespace gantry::cli {

void add_rank_command(CLI::App& app) {
  auto* command = app.add_subcommand("rank", "Started by serve, not by hand")->group("");
  auto parent = std::make_shared<int>(0);
  command->add_option("--parent", *parent, "Process id of rank 0")->required();
  command->callback([parent] {
    // Rank 0 logs why; threads that still read its messages end with the process.
    const Status status = run_follower(*parent, open_source);
    std::_Exit(status.ok() ? 0 : 1);
  });
}

}  // namespace gantry::cli

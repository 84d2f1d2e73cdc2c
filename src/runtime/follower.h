// A rank of a replica that is not the first: follows rank 0 plan by plan.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>

#include "base/status.h"
#include "formats/weight_source.h"

namespace gantry {

// Opens a checkpoint as --load-format says.
using OpenSource = std::function<Result<std::unique_ptr<WeightSource>>(const std::string& path,
                                                                       const std::string& load_format)>;

// In a process that a WorkerGroup started, `parent`. Serves until rank 0 hangs up, and then ends the process, whatever it
// is doing, with 0. Returns what went wrong, which rank 0 has been told.
Status run_follower(pid_t parent, const OpenSource& open);

}  // namespace gantry

// Models of the Hugging Face hub for the subcommands.
#pragma once

#include <functional>
#include <string>

#include "base/status.h"
#include "hub/pull.h"

namespace gantry::cli {

struct HubModel {
  hub::Settings settings;
  hub::PullRequest request;
};

// The settings of this process, and the request for "ORG/NAME" or "ORG/NAME@REVISION". `revision` stands for a
// missing @REVISION; empty: main.
Result<HubModel> hub_model(const std::string& name, const std::string& revision = {});

// Fetches what is missing and returns what open_weights() takes: the snapshot's folder, or the GGUF file in it.
// When the hub cannot be reached, or HF_HUB_OFFLINE forbids it, what was pulled before is taken, with a warning.
Result<std::string> fetch_hub_model(
    const HubModel& model, const hub::StopSignal& stop,
    const std::function<void(uint64_t done_bytes, uint64_t total_bytes)>& on_progress);

// The same from the cache alone.
Result<std::string> cached_hub_model(const HubModel& model);

}  // namespace gantry::cli

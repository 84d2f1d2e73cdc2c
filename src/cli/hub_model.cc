#include "cli/hub_model.h"

#include <filesystem>
#include <vector>

#include "base/log.h"

namespace gantry::cli {
namespace {

// A snapshot without config.json and with one GGUF file is that file.
std::string weights_in(const std::string& snapshot) {
  std::error_code error;
  if (std::filesystem::exists(snapshot + "/config.json", error)) return snapshot;
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(snapshot, error)) {
    if (entry.path().extension() == ".gguf") found.push_back(entry.path().string());
  }
  return found.size() == 1 ? found[0] : snapshot;
}

}  // namespace

Result<HubModel> hub_model(const std::string& name, const std::string& revision) {
  HubModel model;
  const bool has_revision = name.find('@') != std::string::npos;
  GANTRY_ASSIGN_OR_RETURN(
      model.request.repo,
      hub::parse_repo_name(has_revision || revision.empty() ? name : name + "@" + revision));
  GANTRY_ASSIGN_OR_RETURN(model.settings, hub::read_settings("gantry/" GANTRY_VERSION));
  return model;
}

Result<std::string> cached_hub_model(const HubModel& model) {
  GANTRY_ASSIGN_OR_RETURN(const std::string snapshot,
                          hub::cached_snapshot(model.settings, model.request.repo));
  return weights_in(snapshot);
}

Result<std::string> fetch_hub_model(const HubModel& model, const hub::StopSignal& stop,
                                    const std::function<void(uint64_t, uint64_t)>& on_progress) {
  auto cached = cached_hub_model(model);
  if (model.settings.offline) return cached;
  hub::PullRequest request = model.request;
  if (cached.ok()) request.download.retries = 1;  // there is something to serve: the question alone may fail
  const auto plan = hub::plan_pull(model.settings, request, stop);
  if (!plan.ok() && plan.status().code() == StatusCode::kUnavailable && cached.ok()) {
    log::warn("{}: serving what was pulled before", plan.status().message());
    return cached;
  }
  GANTRY_RETURN_IF_ERROR(plan.status());
  GANTRY_RETURN_IF_ERROR(hub::execute_pull(model.settings, model.request, *plan, stop, on_progress));
  return weights_in(plan->snapshot);
}

}  // namespace gantry::cli

// A whole plan: is the layout possible, what does each rank hold, what fits, what would, and how fast.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "plan/host_traffic.h"
#include "plan/memory_plan.h"
#include "plan/roofline.h"

namespace gantry {

// A folder (config.json alone is enough), a .gguf file, or the name of a built-in configuration.
Result<PlannedModel> open_planned_model(const std::string& path_or_name);

// The same of a checkpoint that is open.
Result<PlannedModel> planned_model(const std::string& name, const WeightSource& source);

// Devices and layout that would hold the model with one request of the length.
struct Alternative {
  std::string device;
  ParallelSizes sizes;
  int64_t requests_of_max_len = 0;
};

struct DeploymentPlan {
  MemoryPlan memory;
  std::vector<Roofline::Decode> decode;  // empty without bandwidth and rate
  struct FirstToken {
    int32_t prompt = 0;
    double seconds = 0;
  };
  std::vector<FirstToken> first_token;
  struct Traffic {
    int32_t sequences = 0;  // that decode at once
    HostTraffic each;
  };
  std::vector<Traffic> traffic;  // between several hosts
  // When it does not fit: the fewest devices of this kind, other devices in the same layout, and the longest
  // max_model_len that fits here (0: none).
  std::vector<Alternative> alternatives;
  int32_t max_model_len_that_fits = 0;
};

// kInvalidArgument for values out of range and sizes that do not split the model.
Result<DeploymentPlan> plan_deployment(const PlannedModel& model, const PlanRequest& request);

std::string plan_table(const PlannedModel& model, const PlanRequest& request, const DeploymentPlan& plan);
nlohmann::ordered_json plan_json(const PlannedModel& model, const PlanRequest& request,
                                 const DeploymentPlan& plan);

}  // namespace gantry

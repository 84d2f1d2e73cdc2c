// The JSON of /health and of an entry of /v1/models.
#pragma once

#include <string>
#include <vector>

#include "server/json_writer.h"
#include "server/model_registry.h"

namespace gantry {

// {status, pid, models: [{id, state, progress: {phase, done, total, per_second, seconds_left}, replicas: [{id, epoch, state,
// age_seconds, restarts, cause, ranks: [{rank, host, pid, state}]}]}]}. status: "ok", "loading" while a model loads, "degraded" when one failed or a replica is not ready, "draining".
std::string health_json(const std::vector<ModelHealth>& models, bool draining);

void write_model(JsonWriter& json, const LoadedModel& model);

}  // namespace gantry

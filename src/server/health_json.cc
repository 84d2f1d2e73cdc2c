#include "server/health_json.h"

#include <unistd.h>

namespace gantry {
namespace {

std::string_view overall(const std::vector<ModelHealth>& models, bool draining) {
  if (draining) return "draining";
  std::string_view status = "ok";
  for (const ModelHealth& model : models) {
    if (model.state == "failed") return "degraded";
    if (model.state == "loading") status = "loading";
    for (const ReplicaHealth& replica : model.replicas) {
      if (replica.state != "ready") return "degraded";
    }
  }
  return status;
}

void write_replica(JsonWriter& json, const ReplicaHealth& replica) {
  json.object()
      .key("id")
      .value(replica.id)
      .key("epoch")
      .value(replica.epoch)
      .key("state")
      .value(replica.state)
      .key("age_seconds")
      .value(replica.age_seconds)
      .key("restarts")
      .value(replica.restarts)
      .key("cause")
      .value(replica.cause);
  json.key("ranks").array();
  for (const RankHealth& rank : replica.ranks) {
    json.object().key("rank").value(rank.rank).key("host").value(rank.host).key("pid").value(rank.pid);
    json.key("state").value(rank.state).end_object();
  }
  json.end_array().end_object();
}

}  // namespace

std::string health_json(const std::vector<ModelHealth>& models, bool draining) {
  std::string out;
  JsonWriter json(out);
  json.object().key("status").value(overall(models, draining)).key("pid").value(int64_t{getpid()});
  json.key("models").array();
  for (const ModelHealth& model : models) {
    json.object().key("id").value(model.id).key("state").value(model.state).key("progress").object();
    json.key("phase").value(model.progress.phase).key("done").value(model.progress.done);
    json.key("total").value(model.progress.total);
    json.key("per_second").value(model.progress.per_second).key("seconds_left");
    json.value(model.progress.seconds_left).end_object().key("replicas").array();
    for (const ReplicaHealth& replica : model.replicas) write_replica(json, replica);
    json.end_array().end_object();
  }
  json.end_array().end_object();
  return out;
}

void write_model(JsonWriter& json, const LoadedModel& model) {
  json.object().key("id").value(model.served.id).key("object").value("model");
  json.key("created").value(model.served.created).key("owned_by").value("gantry");
  json.key("root").value(model.served.id).key("parent").null();
  json.key("max_model_len").value(model.info.max_model_len).end_object();
}

}  // namespace gantry

#include "server/model_registry.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "base/clock.h"
#include "base/limits.h"

namespace gantry {
namespace {

bool knows_reasoning(const Tokenizer& tokenizer) {
  const VocabSpec& spec = tokenizer.spec();
  return spec.chat_template.find("</think>") != std::string::npos ||
         std::any_of(spec.added.begin(), spec.added.end(),
                     [](const AddedToken& token) { return token.content == "</think>"; });
}

std::shared_ptr<LoadedModel> load(ServedModel served, Metrics& metrics) {
  auto model = std::make_shared<LoadedModel>();
  model->info = served.front->info();
  model->eos = served.eos;
  if (served.created == 0) served.created = unix_seconds();
  if (served.tokenizer != nullptr) {
    model->encoder.emplace(*served.tokenizer);
    model->reasoning = knows_reasoning(*served.tokenizer);
    for (const TokenId id : served.tokenizer->spec().eos) {
      if (std::find(model->eos.begin(), model->eos.end(), id) == model->eos.end()) model->eos.push_back(id);
    }
  }
  model->metrics = &metrics.model(served.id);
  model->served = std::move(served);
  return model;
}

}  // namespace

std::vector<ReplicaHealth> replicas_of(const LoadedModel& model) {
  if (model.served.replicas) return model.served.replicas();
  return {{.id = model.served.id + "-0",
           .epoch = 0,
           .state = "ready",
           .cause = {},
           .ranks = {{.rank = 0, .host = {}, .pid = getpid(), .state = "ready"}}}};
}

ModelRegistry::Entry* ModelRegistry::find_entry(const std::string& name) {
  for (Entry& entry : entries_) {
    if (entry.id == name) return &entry;
    if (!entry.model) continue;
    const auto& aliases = entry.model->served.aliases;
    if (std::find(aliases.begin(), aliases.end(), name) != aliases.end()) return &entry;
  }
  return nullptr;
}

const ModelRegistry::Entry* ModelRegistry::find_entry(const std::string& name) const {
  return const_cast<ModelRegistry*>(this)->find_entry(name);
}

Status ModelRegistry::add(const std::string& id) {
  const std::lock_guard lock(mutex_);
  if (id.empty()) return invalid_argument("a served model needs a name");
  if (find_entry(id) != nullptr)
    return invalid_argument(fmt::format("two served models have the name '{}'", id));
  entries_.push_back({.id = id, .progress = {.phase = "waiting"}, .failure = {}, .model = nullptr});
  return {};
}

void ModelRegistry::set_progress(const std::string& id, LoadProgress progress) {
  const std::lock_guard lock(mutex_);
  if (Entry* entry = find_entry(id)) entry->progress = std::move(progress);
}

Status ModelRegistry::publish(ServedModel served) {
  std::shared_ptr<LoadedModel> model = load(std::move(served), metrics_);
  const std::lock_guard lock(mutex_);
  Entry* entry = find_entry(model->served.id);
  if (entry == nullptr) return invalid_argument(fmt::format("no model '{}' was added", model->served.id));
  for (const std::string& alias : model->served.aliases) {
    const Entry* other = find_entry(alias);
    if (other != nullptr && other != entry) {
      return invalid_argument(fmt::format("two served models have the name '{}'", alias));
    }
  }
  entry->progress = {.phase = "ready", .done = 1, .total = 1};
  entry->model = std::move(model);
  return {};
}

void ModelRegistry::fail(const std::string& id, std::string message) {
  const std::lock_guard lock(mutex_);
  if (Entry* entry = find_entry(id)) entry->failure = std::move(message);
}

Result<std::shared_ptr<const LoadedModel>> ModelRegistry::find(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  if (name.empty() && entries_.size() != 1) {
    return invalid_argument("model is missing: name one of those that /v1/models lists", "model");
  }
  const Entry* entry = name.empty() ? &entries_.front() : find_entry(name);
  if (entry == nullptr) {
    constexpr size_t kShown = 100;
    return Status(StatusCode::kNotFound, fmt::format("the model '{}' does not exist", name.substr(0, kShown)),
                  "model");
  }
  if (!entry->failure.empty()) {
    return unavailable(fmt::format("the model '{}' could not be loaded: {}", entry->id, entry->failure));
  }
  if (!entry->model) return unavailable(fmt::format("the model '{}' is loading", entry->id));
  return entry->model;
}

std::vector<std::shared_ptr<const LoadedModel>> ModelRegistry::loaded() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<const LoadedModel>> models;
  for (const Entry& entry : entries_) {
    if (entry.model && entry.failure.empty()) models.push_back(entry.model);
  }
  return models;
}

std::vector<ModelHealth> ModelRegistry::health() const {
  const std::lock_guard lock(mutex_);
  std::vector<ModelHealth> all;
  for (const Entry& entry : entries_) {
    ModelHealth health{.id = entry.id, .state = "loading", .progress = entry.progress, .replicas = {}};
    if (!entry.failure.empty()) {
      health.state = "failed";
    } else if (entry.model) {
      health.replicas = replicas_of(*entry.model);
      const bool any = std::any_of(health.replicas.begin(), health.replicas.end(),
                                   [](const ReplicaHealth& replica) { return replica.state == "ready"; });
      const bool all_dead = std::all_of(health.replicas.begin(), health.replicas.end(),
                                        [](const ReplicaHealth& replica) { return replica.state == "dead"; });
      health.state = any ? "ready" : all_dead ? "failed" : "restarting";
    }
    all.push_back(std::move(health));
  }
  return all;
}

}  // namespace gantry

// The models that this server knows, and the state of each: what /health, /v1/models and every request look
// at.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "chat/chat_template.h"
#include "control/front.h"
#include "server/metrics.h"
#include "server/prompt_encoder.h"
#include "server/replica_health.h"
#include "text/tokenizer.h"

namespace gantry {

// What generation_config.json sets for requests that do not.
struct SamplingDefaults {
  std::optional<float> temperature{};
  std::optional<float> top_p{};
  std::optional<int32_t> top_k{};
  std::optional<float> min_p{};
  std::optional<float> repetition_penalty{};
};

// A loaded model. All that is pointed to outlives the server.
struct ServedModel {
  std::string id{};
  std::vector<std::string> aliases{};  // other names that requests may use
  Front* front = nullptr;
  const Tokenizer* tokenizer = nullptr;         // null: token ids only
  const ChatTemplate* chat_template = nullptr;  // null: no chat
  std::vector<TokenId> eos{};                   // end a generation, beside the tokenizer's own
  SamplingDefaults defaults{};
  int64_t created = 0;  // unix seconds
  // Null: one replica of one rank, in this process.
  std::function<std::vector<ReplicaHealth>()> replicas{};
};

// A served model with what is derived from it once.
struct LoadedModel {
  ServedModel served;
  ReplicaInfo info;
  std::vector<TokenId> eos;
  std::optional<PromptEncoder> encoder;
  bool reasoning = false;  // knows <think>: answers are split into reasoning and content
  ModelMetrics* metrics = nullptr;
};

std::vector<ReplicaHealth> replicas_of(const LoadedModel& model);

struct LoadProgress {
  std::string phase{};
  uint64_t done = 0;
  uint64_t total = 0;  // 0: unknown
  double per_second = 0;
  double seconds_left = 0;
};

struct ModelHealth {
  std::string id;
  std::string state;  // "loading", "ready", "failed", or "restarting": no replica is ready, and requests wait
  LoadProgress progress;
  std::vector<ReplicaHealth> replicas;
};

// Thread-safe.
class ModelRegistry {
 public:
  explicit ModelRegistry(Metrics& metrics) : metrics_(metrics) {}

  // Makes the model known as loading. kInvalidArgument if the name is taken or empty.
  Status add(const std::string& id);
  void set_progress(const std::string& id, LoadProgress progress);
  // The model takes requests from now on. kInvalidArgument if it was not added, or an alias is taken.
  Status publish(ServedModel model);
  // message: one line without a path; shown to those who ask for the model.
  void fail(const std::string& id, std::string message);

  // By id or alias; empty means the only model. kNotFound (param "model"), or kUnavailable while it loads or
  // if it failed.
  Result<std::shared_ptr<const LoadedModel>> find(const std::string& name) const;
  std::vector<std::shared_ptr<const LoadedModel>> loaded() const;  // in the order of add()
  std::vector<ModelHealth> health() const;

 private:
  struct Entry {
    std::string id;
    LoadProgress progress;
    std::string failure;
    std::shared_ptr<const LoadedModel> model;
  };
  Entry* find_entry(const std::string& name);
  const Entry* find_entry(const std::string& name) const;

  Metrics& metrics_;
  mutable std::mutex mutex_;
  std::vector<Entry> entries_;
};

}  // namespace gantry

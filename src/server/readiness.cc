#include "server/readiness.h"

#include <algorithm>

#include "base/clock.h"
#include "base/limits.h"

namespace gantry {

struct Readiness::Shared {
  struct Running {
    Front* front;
    RequestId request;
  };
  std::mutex mutex;
  std::map<const LoadedModel*, Running> running;
  std::vector<std::function<void()>> waiting;

  // The model's request has ended, or never began. Who waits is told once none is under way any more.
  void end(const LoadedModel* model) {
    std::vector<std::function<void()>> told;
    {
      const std::lock_guard lock(mutex);
      running.erase(model);
      if (running.empty()) told.swap(waiting);
    }
    for (const auto& fn : told) fn();
  }
};

// The owner of a one-token request.
class Readiness::Probe : public StreamSink {
 public:
  Probe(std::weak_ptr<Shared> shared, const LoadedModel* model) : shared_(std::move(shared)), model_(model) {}
  void on_prompt_logprobs(PromptLogprobs&& /*logprobs*/) override {}
  void on_token(TokenEvent&& event) override {
    if (event.finish == FinishReason::kNone) return;
    if (const auto shared = shared_.lock()) shared->end(model_);
  }
  void on_refused(const Status& /*status*/) override {
    if (const auto shared = shared_.lock()) shared->end(model_);
  }

 private:
  std::weak_ptr<Shared> shared_;
  const LoadedModel* model_;  // a key only
};

namespace {

bool is_fresh(const LoadedModel& model) {
  const int64_t last = model.served.front->stats().last_token_ns;
  return last != 0 && monotonic_ns() - last <= int64_t{limits::kReadyTokenSecondsMax} * 1'000'000'000;
}

GenerateRequest one_token(const LoadedModel& model) {
  GenerateRequest request;
  request.id = model.served.front->next_id();
  request.prompt = {0};
  if (model.served.tokenizer != nullptr) request.prompt = {model.served.tokenizer->spec().bos.value_or(0)};
  request.params.max_tokens = 1;
  request.params.temperature = 0;
  request.params.ignore_eos = true;
  request.deadline_ns = monotonic_ns() + int64_t{limits::kReadyProbeSecondsMax} * 1'000'000'000;
  return request;
}

}  // namespace

Readiness::Readiness(const ModelRegistry& registry)
    : registry_(registry), shared_(std::make_shared<Shared>()) {}

Readiness::~Readiness() {
  std::map<const LoadedModel*, Shared::Running> running;
  {
    const std::lock_guard lock(shared_->mutex);
    running.swap(shared_->running);
  }
  for (const auto& [model, probe] : running) probe.front->close(probe.request);
}

Readiness::State Readiness::state() const {
  State state;
  const auto models = registry_.loaded();
  for (const ModelHealth& health : registry_.health()) {
    const bool fresh = std::any_of(models.begin(), models.end(), [&](const auto& model) {
      return model->served.id == health.id && is_fresh(*model);
    });
    if (health.state == "ready" && fresh) continue;
    state.waiting_for += (state.waiting_for.empty() ? "" : ", ") + health.id;
  }
  state.ready = !models.empty() && state.waiting_for.empty();
  return state;
}

bool Readiness::probe(std::function<void()> changed) {
  bool asked = false;
  std::vector<std::pair<std::shared_ptr<const LoadedModel>, GenerateRequest>> wanted;
  {
    const std::lock_guard lock(shared_->mutex);
    for (const auto& model : registry_.loaded()) {
      if (is_fresh(*model)) continue;
      asked = true;
      if (shared_->running.contains(model.get())) continue;
      GenerateRequest request = one_token(*model);
      shared_->running[model.get()] = {model->served.front, request.id};
      wanted.emplace_back(model, std::move(request));
    }
    if (asked) shared_->waiting.push_back(std::move(changed));
  }
  for (auto& [model, request] : wanted) {
    const Status status =
        model->served.front->open(std::move(request), std::make_shared<Probe>(shared_, model.get()));
    if (!status.ok()) shared_->end(model.get());
  }
  return asked;
}

}  // namespace gantry

#include "engine/engine_loop.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"

namespace gantry {

EngineLoop::EngineLoop(StepExecutor& executor, const SchedulerOptions& options, int64_t vocab_size)
    : executor_(executor), scheduler_(options), vocab_size_(vocab_size), gate_(options.queue, scheduler_) {
  stats_ = scheduler_.stats();
  thread_ = std::thread([this] { run(); });
}

EngineLoop::~EngineLoop() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void EngineLoop::set_sink(FrameSink* sink) {
  std::lock_guard lock(sink_mutex_);
  sink_ = sink;
}

Status EngineLoop::check(const GenerateRequest& request) const {
  GANTRY_RETURN_IF_ERROR(validate(request.params, vocab_size_));
  GANTRY_RETURN_IF_ERROR(scheduler_.check_fits(request));
  const auto n = static_cast<size_t>(request.params.n);
  if (request.emitted.size() > n || request.finished.size() > n) {
    return invalid_argument(fmt::format("emitted tokens of more than {} choices", n), "emitted");
  }
  const auto check_ids = [&](const std::vector<TokenId>& ids, const char* name) -> Status {
    for (const TokenId id : ids) {
      if (id >= 0 && id < vocab_size_) continue;
      return invalid_argument(
          fmt::format("{} has token id {}, must be between 0 and {}", name, id, vocab_size_ - 1), name);
    }
    return {};
  };
  GANTRY_RETURN_IF_ERROR(check_ids(request.prompt, "prompt"));
  for (const auto& emitted : request.emitted) {
    GANTRY_RETURN_IF_ERROR(check_ids(emitted, "emitted"));
    if (emitted.size() > static_cast<size_t>(request.params.max_tokens)) {
      return invalid_argument(
          fmt::format("{} emitted tokens, max_tokens is {}", emitted.size(), request.params.max_tokens),
          "emitted");
    }
  }
  return {};
}

Status EngineLoop::submit(GenerateRequest request) {
  GANTRY_RETURN_IF_ERROR(check(request));
  {
    std::lock_guard lock(mutex_);
    if (failed_) return unavailable("the replica has failed");
    if (draining_ || stop_) return unavailable("the replica is shutting down");
    const int64_t now = monotonic_ns();
    GANTRY_RETURN_IF_ERROR(gate_.enter(request, now));
    inbox_.emplace_back(Submit{std::move(request), now});
  }
  wake_.notify_one();
  return {};
}

void EngineLoop::cancel(RequestId request, int32_t choice) {
  {
    std::lock_guard lock(mutex_);
    inbox_.emplace_back(Cancel{request, choice});
  }
  wake_.notify_one();
}

void EngineLoop::drain() {
  std::lock_guard lock(mutex_);
  draining_ = true;
}

ReplicaStats EngineLoop::stats() const {
  std::lock_guard lock(mutex_);
  ReplicaStats stats = stats_;
  stats.waiting += static_cast<int32_t>(gate_.outside_requests());
  stats.waiting_tokens += gate_.outside_tokens();
  stats.queue_wait_s = expected_wait_s(gate_.state(), {});
  const int64_t began = step_began_ns_;
  if (began != 0) stats.step_running_ns = std::max<int64_t>(0, monotonic_ns() - began);
  stats.failed = failed_;
  return stats;
}

void EngineLoop::run() {
  bool works = true;
  while (works && drain_inbox()) {
    schedule_and_execute();
    works = advance();
    publish();
  }
  {
    std::lock_guard lock(mutex_);
    std::swap(commands_, inbox_);
    gate_.hand_over();
  }
  for (Command& command : commands_) take(command);  // the last: submit() refuses since stop_ or failed_
  while (works && scheduler_.tickets_in_flight() > 0) works = advance();
  const auto [reason, why] = works ? std::pair(FinishReason::kCancelled, "the replica is shutting down")
                                   : std::pair(FinishReason::kError, "the replica has failed");
  scheduler_.end_all(reason, why, monotonic_ns(), frame_);
  publish();
}

bool EngineLoop::drain_inbox() {
  commands_.clear();
  {
    std::unique_lock lock(mutex_);
    if (idle_) wake_.wait(lock, [&] { return stop_ || !inbox_.empty(); });
    if (stop_) return false;
    std::swap(commands_, inbox_);
    gate_.hand_over();
    if (idle_) gate_.resume(monotonic_ns());
  }
  for (Command& command : commands_) take(command);
  scheduler_.expire(monotonic_ns(), frame_);
  return true;
}

void EngineLoop::take(Command& command) {
  if (auto* submit = std::get_if<Submit>(&command)) {
    scheduler_.add(std::move(submit->request), submit->at_ns, frame_);
  } else {
    const auto& cancel = std::get<Cancel>(command);
    scheduler_.cancel(cancel.request, cancel.choice);
  }
}

void EngineLoop::schedule_and_execute() {
  while (scheduler_.schedule(monotonic_ns(), plan_)) {
    if (step_began_ns_ == 0) step_began_ns_ = monotonic_ns();
    announce_starts();
    executor_.submit(plan_);
  }
}

void EngineLoop::announce_starts() {
  if (plan_.starts.empty()) return;
  started_.clear();
  for (const SequenceStart& start : plan_.starts) {
    if (std::find(started_.begin(), started_.end(), start.request->id) == started_.end()) {
      started_.push_back(start.request->id);
    }
  }
  std::lock_guard lock(sink_mutex_);
  if (sink_ != nullptr) sink_->on_started(started_);
}

bool EngineLoop::advance() {
  idle_ = scheduler_.tickets_in_flight() == 0;
  if (idle_) return true;
  if (const Status status = executor_.collect(result_); !status.ok()) {
    log::error("the replica has failed: {}", status.message());
    std::lock_guard lock(mutex_);
    failed_ = true;
    return false;
  }
  scheduler_.advance(result_, monotonic_ns(), frame_);
  step_began_ns_ = scheduler_.tickets_in_flight() > 0 ? monotonic_ns() : 0;
  return true;
}

void EngineLoop::publish() {
  {
    std::lock_guard lock(mutex_);
    stats_ = scheduler_.stats();
    gate_.observe(scheduler_, stats_, monotonic_ns());
  }
  if (frame_.tokens.empty() && frame_.prompts.empty()) return;
  {
    std::lock_guard lock(sink_mutex_);
    if (sink_ != nullptr) sink_->on_frame(std::move(frame_));
  }
  frame_.prompts.clear();
  frame_.tokens.clear();
}

}  // namespace gantry

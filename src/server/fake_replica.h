// A replica with a script instead of a model, for tests and for measuring the front alone.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "protocol/replica_client.h"

namespace gantry {

// Generates one token per choice and step, on a thread of its own: script(request, choice, index), where -1
// is the model's end token. Holds one KV block per open choice.
class FakeReplica : public ReplicaClient {
 public:
  using Script = std::function<TokenId(const GenerateRequest& request, int32_t choice, int32_t index)>;

  FakeReplica(ReplicaInfo info, Script script)
      : info_(std::move(info)), script_(std::move(script)), thread_([this] { run(); }) {}
  ~FakeReplica() override {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

  void set_sink(FrameSink* sink) override {
    const std::lock_guard lock(sink_mutex_);
    sink_ = sink;
  }
  Status submit(GenerateRequest request) override {
    const std::lock_guard lock(mutex_);
    ++submitted_;
    if (!refusal_.ok()) return refusal_;
    const RequestId id = request.id;
    Stream stream{.request = std::move(request), .next = {}, .open = {}};
    stream.next.resize(static_cast<size_t>(stream.request.params.n), 0);
    stream.open.resize(static_cast<size_t>(stream.request.params.n), true);
    streams_.emplace(id, std::move(stream));
    wake_.notify_all();
    return {};
  }
  void cancel(RequestId id, int32_t choice) override {
    const std::lock_guard lock(mutex_);
    const auto it = streams_.find(id);
    if (it == streams_.end()) return;
    ++cancelled_;
    for (size_t i = 0; i < it->second.open.size(); ++i) {
      if (choice < 0 || static_cast<size_t>(choice) == i) it->second.open[i] = false;
    }
    drop_if_done(it);
  }
  void drain() override { refuse_with(unavailable("the replica is draining")); }
  ReplicaStats stats() const override {
    const std::lock_guard lock(mutex_);
    ReplicaStats stats;
    for (const auto& [id, stream] : streams_) {
      for (const bool open : stream.open) stats.running += open ? 1 : 0;
    }
    stats.kv_blocks_used = stats.running;
    stats.kv_blocks_total = 1024;
    stats.steps = steps_;
    stats.generated_tokens = generated_;
    stats.last_token_ns = last_token_ns_;
    return stats;
  }
  const ReplicaInfo& info() const override { return info_; }

  // Steps happen only while it is not held.
  void hold(bool held) {
    const std::lock_guard lock(mutex_);
    held_ = held;
    wake_.notify_all();
  }
  // One step although it is held; true unless nothing is open.
  bool step_once() {
    StepFrame frame;
    {
      const std::lock_guard lock(mutex_);
      if (streams_.empty()) return false;
      step(frame);
    }
    send(std::move(frame));
    return true;
  }
  void refuse_with(Status status) {
    const std::lock_guard lock(mutex_);
    refusal_ = std::move(status);
  }
  // Ends every open stream with an error.
  void fail_all(FinishReason reason, const std::string& text) {
    StepFrame frame;
    {
      const std::lock_guard lock(mutex_);
      for (auto& [id, stream] : streams_) {
        for (size_t i = 0; i < stream.open.size(); ++i) {
          if (stream.open[i]) frame.tokens.push_back(end_event(stream, i, reason, text));
        }
      }
      streams_.clear();
    }
    send(std::move(frame));
  }
  void set_step_time(std::chrono::microseconds time) {
    const std::lock_guard lock(mutex_);
    step_time_ = time;
  }
  // What every token is said to have had drafted.
  void draft(int32_t accepted, int32_t rejected) {
    const std::lock_guard lock(mutex_);
    accepted_drafts_ = accepted;
    rejected_drafts_ = rejected;
  }
  int submitted() const {
    const std::lock_guard lock(mutex_);
    return submitted_;
  }
  int cancelled() const {
    const std::lock_guard lock(mutex_);
    return cancelled_;
  }
  // As it was submitted; of those that have had a step.
  GenerateRequest last_request() const {
    const std::lock_guard lock(mutex_);
    return last_request_;
  }

 private:
  struct Stream {
    GenerateRequest request;
    std::vector<int32_t> next;
    std::vector<bool> open;
    bool prompt_sent = false;
  };

  static TokenEvent end_event(const Stream& stream, size_t choice, FinishReason reason,
                              const std::string& text) {
    TokenEvent event;
    event.request = stream.request.id;
    event.epoch = stream.request.epoch;
    event.choice = static_cast<int32_t>(choice);
    event.index = stream.next[choice];
    event.finish = reason;
    event.error = text;
    return event;
  }

  void drop_if_done(std::map<RequestId, Stream>::iterator it) {
    for (const bool open : it->second.open) {
      if (open) return;
    }
    streams_.erase(it);
  }

  void send(StepFrame&& frame) {
    const std::lock_guard lock(sink_mutex_);
    if (sink_ != nullptr) sink_->on_frame(std::move(frame));
  }

  // Alternatives have the following ids, each a logprob lower.
  static std::vector<TokenLogprob> alternatives(TokenId first, int32_t count) {
    std::vector<TokenLogprob> top;
    for (int32_t i = 0; i < count; ++i) top.push_back({first + i, -0.5f - static_cast<float>(i)});
    return top;
  }

  void step_choice(Stream& stream, size_t choice, StepFrame& frame) {
    const SamplingParams& params = stream.request.params;
    TokenEvent event = end_event(stream, choice, FinishReason::kNone, {});
    TokenId token = params.max_tokens == 0 ? 0 : script_(stream.request, event.choice, event.index);
    if (token < 0 && params.ignore_eos) token = 0;
    if (params.max_tokens == 0) {
      event.finish = FinishReason::kLength;
    } else if (token < 0) {
      event.finish = FinishReason::kStop;
      event.stop_token = params.eos_token_ids.empty() ? 0 : params.eos_token_ids.front();
    } else {
      event.token = token;
      event.logprob = -0.5f;
      event.accepted_drafts = accepted_drafts_;
      event.rejected_drafts = rejected_drafts_;
      if (params.logprobs > 0) event.top = alternatives(token, params.logprobs);
      ++generated_;
      last_token_ns_ = monotonic_ns();
      if (++stream.next[choice] >= params.max_tokens) event.finish = FinishReason::kLength;
    }
    if (event.finish != FinishReason::kNone) stream.open[choice] = false;
    frame.tokens.push_back(std::move(event));
  }

  void step(StepFrame& frame) {
    ++steps_;
    for (auto it = streams_.begin(); it != streams_.end();) {
      Stream& stream = it->second;
      last_request_ = stream.request;
      if (!std::exchange(stream.prompt_sent, true) && stream.request.params.prompt_logprobs >= 0) {
        PromptLogprobs prompt;
        prompt.request = stream.request.id;
        for (size_t i = 1; i < stream.request.prompt.size(); ++i) {
          prompt.tokens.push_back({stream.request.prompt[i], -0.25f});
          prompt.top.push_back(alternatives(stream.request.prompt[i], stream.request.params.prompt_logprobs));
        }
        frame.prompts.push_back(std::move(prompt));
      }
      for (size_t choice = 0; choice < stream.open.size(); ++choice) {
        if (stream.open[choice]) step_choice(stream, choice, frame);
      }
      const auto current = it++;
      drop_if_done(current);
    }
  }

  void run() {
    std::unique_lock lock(mutex_);
    while (!stop_) {
      wake_.wait(lock, [this] { return stop_ || (!held_ && !streams_.empty()); });
      if (stop_) break;
      if (step_time_.count() > 0) wake_.wait_for(lock, step_time_, [this] { return stop_; });
      StepFrame frame;
      step(frame);
      lock.unlock();
      send(std::move(frame));
      lock.lock();
    }
  }

  const ReplicaInfo info_;
  const Script script_;
  std::mutex sink_mutex_;
  FrameSink* sink_ = nullptr;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::map<RequestId, Stream> streams_;
  std::chrono::microseconds step_time_{0};
  GenerateRequest last_request_;
  Status refusal_;
  int64_t steps_ = 0;
  int64_t generated_ = 0;
  int32_t accepted_drafts_ = 0;
  int32_t rejected_drafts_ = 0;
  int64_t last_token_ns_ = 0;
  int submitted_ = 0;
  int cancelled_ = 0;
  bool held_ = false;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace gantry

// A sink for tests: collects events by stream and waits for them.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <span>
#include <vector>

#include "protocol/replica_client.h"

namespace gantry {

class FrameCollector : public FrameSink {
 public:
  struct Stream {
    std::vector<TokenId> tokens;
    std::vector<float> logprobs;
    std::vector<std::vector<TokenLogprob>> top;
    TokenEvent last;
    int64_t accepted_drafts = 0;
    int64_t rejected_drafts = 0;

    bool ended() const { return last.finish != FinishReason::kNone; }
  };

  void on_frame(StepFrame&& frame) override {
    std::lock_guard lock(mutex_);
    for (TokenEvent& event : frame.tokens) {
      Stream& stream = streams_[{event.request.value, event.choice}];
      EXPECT_EQ(event.index, static_cast<int32_t>(stream.tokens.size()));
      EXPECT_FALSE(stream.ended());
      if (event.token >= 0) {
        stream.tokens.push_back(event.token);
        stream.logprobs.push_back(event.logprob);
        stream.top.push_back(event.top);
      }
      stream.accepted_drafts += event.accepted_drafts;
      stream.rejected_drafts += event.rejected_drafts;
      stream.last = std::move(event);
    }
    prompts_.insert(prompts_.end(), frame.prompts.begin(), frame.prompts.end());
    changed_.notify_all();
  }

  void on_started(std::span<const RequestId> requests) override {
    std::lock_guard lock(mutex_);
    for (const RequestId id : requests) started_.insert(id.value);
    changed_.notify_all();
  }

  void wait_for_start(uint64_t request) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(
        changed_.wait_for(lock, std::chrono::seconds(120), [&] { return started_.contains(request); }))
        << "request " << request;
  }
  Stream wait_for_end(uint64_t request, int32_t choice = 0) {
    return wait(request, choice, [](const Stream& s) { return s.ended(); });
  }
  Stream wait_for_token(uint64_t request, int32_t choice = 0) {
    return wait(request, choice, [](const Stream& s) { return !s.tokens.empty(); });
  }
  std::vector<PromptLogprobs> prompts() {
    std::lock_guard lock(mutex_);
    return prompts_;
  }

 private:
  template <typename Predicate>
  Stream wait(uint64_t request, int32_t choice, Predicate done) {
    std::unique_lock lock(mutex_);
    Stream& stream = streams_[{request, choice}];
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(120), [&] { return done(stream); }))
        << "request " << request;
    return stream;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<uint64_t, int32_t>, Stream> streams_;
  std::vector<PromptLogprobs> prompts_;
  std::set<uint64_t> started_;
};

}  // namespace gantry

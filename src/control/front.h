// The front's side of every stream: records it in the journal, submits it to a replica, commits each token
// once and hands it to the stream's owner. (Replica sets, routing and resubmission build on this.)
#pragma once

#include <functional>
#include <memory>

#include "base/status.h"
#include "journal/journal.h"
#include "protocol/replica_client.h"

namespace gantry {

// What the owner of a stream gets, on the replica's thread; it must not block (post to your own executor).
class StreamSink {
 public:
  virtual ~StreamSink() = default;
  virtual void on_prompt_logprobs(PromptLogprobs&& logprobs) = 0;
  // Committed: in order, without gaps or repeats within a choice.
  virtual void on_token(TokenEvent&& event) = 0;
};

class Front : public FrameSink {
 public:
  // The replica outlives the front. The destructor waits for a frame in progress; not from within a sink.
  explicit Front(ReplicaClient& replica);
  ~Front() override;

  RequestId next_id();
  // request.id comes from next_id(). The sink is kept until every choice has finished, or close(); it may be
  // called before this returns. On an error (submit()'s) it is not called at all.
  Status open(GenerateRequest request, std::shared_ptr<StreamSink> sink);
  // The owner needs no more of this choice (a stop string was found); -1: of the stream (the client went
  // away). One call of the sink may still be in progress on return. May be called from within the sink.
  void close(RequestId id, int32_t choice = -1);

  size_t open_streams() const;
  ReplicaClient& replica() { return replica_; }
  void on_frame(StepFrame&& frame) override;

 private:
  struct Impl;
  ReplicaClient& replica_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gantry

// The front's side of every stream: records it in the journal, submits it to a replica, commits each token once and hands
// it to the stream's owner. A replica that dies loses nothing: its streams go on, from the journal, on another one or on
// the same once it is back.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/status.h"
#include "journal/journal.h"
#include "protocol/replica_client.h"

namespace gantry {

// What the owner of a stream gets, on a thread of a replica; it must not block (post to your own executor).
class StreamSink {
 public:
  virtual ~StreamSink() = default;
  virtual void on_prompt_logprobs(PromptLogprobs&& logprobs) = 0;
  // Committed: in order, without gaps or repeats within a choice.
  virtual void on_token(TokenEvent&& event) = 0;
  // Instead of any token: the request was not taken on (open()'s errors). Nothing follows.
  virtual void on_refused(const Status& status) = 0;
};

class Front {
 public:
  // Replicas of one model, at least one; they outlive the front. The destructor waits for calls in progress; not from
  // within a sink.
  explicit Front(std::vector<ReplicaClient*> replicas);
  explicit Front(ReplicaClient& replica) : Front(std::vector{&replica}) {}
  ~Front();

  RequestId next_id();
  // request.id comes from next_id(). The sink is kept until every choice has finished, or close(); it may be called
  // before this returns. On an error (submit()'s, or kResourceExhausted while too many wait for a replica to come back)
  // it is not called at all. A request that comes while no replica runs waits, at most until its deadline.
  //
  // The request that a replica was working on when it died is submitted again, like all others. One whose replica crashes
  // again without a token in between is tried alone; if that crashes too, the stream ends with kError. Replicas that were
  // killed from outside count less (control_limits.h).
  Status open(GenerateRequest request, std::shared_ptr<StreamSink> sink);
  // The owner needs no more of this choice (a stop string was found); -1: of the stream (the client went
  // away). One call of the sink may still be in progress on return. May be called from within the sink.
  void close(RequestId id, int32_t choice = -1);

  size_t open_streams() const;
  // Of all replicas together: sums, the shortest wait, the latest token.
  ReplicaStats stats() const;
  const ReplicaInfo& info() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gantry

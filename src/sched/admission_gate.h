// The door of a replica: counts what came in and was not planned yet, measures how fast the scheduler works, and refuses
// what would exceed the limits of the queue.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "protocol/replica_client.h"
#include "sched/admission.h"
#include "sched/scheduler.h"

namespace gantry {

// Not thread-safe: the engine loop's, under its mutex.
class AdmissionGate {
 public:
  AdmissionGate(const QueueLimits& limits, const Scheduler& scheduler);

  // Counts the request as waiting outside of the scheduler; or kResourceExhausted, as admit_to_queue() says of
  // one that was not admitted before.
  Status enter(const GenerateRequest& request, int64_t now_ns);
  // What has entered goes to the scheduler now, whose step ends with observe().
  void hand_over();
  // A step begins after a pause, whose time was no service.
  void resume(int64_t now_ns) { observed_ns_ = now_ns; }
  // After each step: what the scheduler has waiting, and how fast it was.
  void observe(const Scheduler& scheduler, const ReplicaStats& stats, int64_t now_ns);

  QueueState state() const;
  // Requests, and tokens of their service, that the scheduler's statistics do not have yet.
  int64_t outside_requests() const { return entered_.requests + handed_over_.requests; }
  int64_t outside_tokens() const { return entered_.tokens + handed_over_.tokens; }

 private:
  struct Waiting {
    int64_t requests = 0;
    int64_t tokens = 0;  // of service
    int64_t prompt_tokens = 0;
  };

  QueueLimits limits_;
  Waiting entered_;
  Waiting handed_over_;
  QueueState inside_;  // the scheduler's part
  OutputEstimate outputs_;
  ServiceRate service_;
  ServiceRate prefill_;
  int64_t observed_ns_ = 0;
  int64_t observed_tokens_ = 0;  // Scheduler::served_tokens() then
  int64_t observed_prompt_tokens_ = 0;
};

}  // namespace gantry

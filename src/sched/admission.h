// Whether the queue takes one more request, and when a refused one should come again. Functions of plain values.
#pragma once

#include <cstdint>
#include <string>

#include "base/limits.h"
#include "base/status.h"
#include "protocol/replica_client.h"
#include "sched/fair_share.h"

namespace gantry {

struct QueueLimits {
  int64_t requests = static_cast<int64_t>(limits::kWaitingRequestsMax);
  int64_t tokens = 0;  // of service (sched/fair_share.h) that wait; 0: no limit
  double wait_s = 0;   // the longest expected wait for a slot of the batch; 0: no limit
  double prefill_wait_s =
      0;  // the longest expected wait for a prompt's turn, with a slot or without; 0: no limit
};

struct QueueState {
  int64_t requests = 0;    // that wait
  int64_t tokens = 0;      // of service, theirs
  int64_t free_slots = 0;  // of the batch: so many start without waiting, if they fit into
  int64_t free_kv_tokens = 0;
  double tokens_per_s = 0;    // of service, lately; 0: not known
  int64_t prompt_tokens = 0;  // not computed yet, waiting or running, that come before those of a new request
  double prompt_tokens_per_s = 0;  // lately, in steps that compute some; 0: not known
};

struct QueueDemand {
  int64_t choices = 1;
  int64_t tokens = 0;     // of service
  int64_t kv_tokens = 0;  // prompt and expected output of all choices
  double deadline_s = 0;  // from now; 0: none
};

QueueDemand queue_demand(const GenerateRequest& request, const OutputEstimate& outputs, int64_t now_ns);
// Seconds until what waits now has been taken up; 0 if nothing has to wait or nothing is known.
double expected_wait_s(const QueueState& queue, const QueueDemand& demand);
// Seconds until a new prompt's turn comes, if there is a slot; 0 if nothing is known.
double expected_prefill_wait_s(const QueueState& queue);
// kResourceExhausted says which limit is reached.
Status admit_to_queue(const QueueState& queue, const QueueLimits& limits, const QueueDemand& demand);
// Service per second of busy time, exponentially forgotten.
class ServiceRate {
 public:
  void observe(double busy_s, int64_t tokens);
  double tokens_per_s() const { return seconds_ > 0 ? tokens_ / seconds_ : 0; }

 private:
  static constexpr double kMemorySeconds = 5;
  double tokens_ = 0;
  double seconds_ = 0;
};

}  // namespace gantry

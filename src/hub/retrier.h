// When to try again: exponential waits, Retry-After, and one pace for all connections.
#pragma once

#include <atomic>
#include <functional>

#include "hub/http.h"
#include "hub/stop_signal.h"

namespace gantry::hub {

// Thread-safe: the connections of one download share it, so that a server that asks for a pause gets it from
// all of them.
class Retrier {
 public:
  // retries: how often in a row something may fail again without progress. stop outlives the retrier.
  Retrier(int retries, const StopSignal& stop) : retries_(retries), stop_(stop) {}

  struct Try {
    Attempt attempt;
    bool progressed = false;  // something came that need not be fetched again
  };
  // Calls `attempt` until it succeeds, fails for good, or has failed too often; the last error. Waits for
  // Retry-After, up to limits::kHubRetryAfterSecondsMax; a server that asks for more gets no further request.
  Status run(const std::function<Try()>& attempt);

 private:
  Status wait(int64_t until_ns) const;

  int retries_;
  const StopSignal& stop_;
  std::atomic<int64_t> not_before_ns_{0};
};

}  // namespace gantry::hub

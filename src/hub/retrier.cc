#include "hub/retrier.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "base/clock.h"
#include "base/log.h"
#include "hub/hub_limits.h"

namespace gantry::hub {

Status Retrier::wait(int64_t until_ns) const {
  const int64_t left_ms = (until_ns - monotonic_ns() + 999'999) / 1'000'000;
  if (stop_.requested() || (left_ms > 0 && !stop_.wait_for(std::chrono::milliseconds(left_ms)))) {
    return Status(StatusCode::kCancelled, "stopped");
  }
  return {};
}

Status Retrier::run(const std::function<Try()>& attempt) {
  int failures = 0;
  int64_t backoff_ms = limits::kHubBackoffMillisecondsFirst;
  for (;;) {
    GANTRY_RETURN_IF_ERROR(wait(not_before_ns_.load()));
    Try result = attempt();
    if (result.attempt.status.ok() || !result.attempt.retry) return result.attempt.status;
    if (result.progressed) {
      failures = 0;
      backoff_ms = limits::kHubBackoffMillisecondsFirst;
    }
    if (++failures > retries_) {
      return Status(result.attempt.status.code(),
                    fmt::format("{} (tried {} times)", result.attempt.status.message(), failures));
    }
    const int64_t asked_s = result.attempt.retry_after_s.value_or(0);
    if (asked_s > limits::kHubRetryAfterSecondsMax) {
      return Status(result.attempt.status.code(), fmt::format("{}; it asks to be left alone for {} s",
                                                              result.attempt.status.message(), asked_s));
    }
    const int64_t wait_ms = std::max(backoff_ms, asked_s * 1000);
    const int64_t until_ns = monotonic_ns() + wait_ms * 1'000'000;
    log::warn("{}; trying again in {:.1f} s", result.attempt.status.message(),
              static_cast<double>(wait_ms) * 1e-3);
    if (asked_s > 0) {
      int64_t known = not_before_ns_.load();
      while (known < until_ns && !not_before_ns_.compare_exchange_weak(known, until_ns)) {
      }
    }
    GANTRY_RETURN_IF_ERROR(wait(until_ns));
    backoff_ms = std::min<int64_t>(backoff_ms * 2, limits::kHubBackoffMillisecondsMax);
  }
}

}  // namespace gantry::hub

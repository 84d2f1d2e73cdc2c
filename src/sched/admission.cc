#include "sched/admission.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace gantry {

QueueDemand queue_demand(const GenerateRequest& request, const OutputEstimate& outputs, int64_t now_ns) {
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  const int64_t output = request.params.n * outputs.expected(request.params.max_tokens);
  QueueDemand demand;
  demand.choices = request.params.n;
  demand.tokens = service_cost(prompt, output);
  demand.kv_tokens = prompt + output;
  if (request.deadline_ns != 0) demand.deadline_s = static_cast<double>(request.deadline_ns - now_ns) * 1e-9;
  return demand;
}

double expected_wait_s(const QueueState& queue, const QueueDemand& demand) {
  const bool starts_at_once = queue.requests + demand.choices <= queue.free_slots &&
                              queue.tokens + demand.kv_tokens <= queue.free_kv_tokens;
  if (starts_at_once || queue.tokens_per_s <= 0) return 0;
  return static_cast<double>(queue.tokens) / queue.tokens_per_s;
}

double expected_prefill_wait_s(const QueueState& queue) {
  if (queue.prompt_tokens_per_s <= 0) return 0;
  return static_cast<double>(queue.prompt_tokens) / queue.prompt_tokens_per_s;
}

Status admit_to_queue(const QueueState& queue, const QueueLimits& limits, const QueueDemand& demand) {
  if (queue.requests >= limits.requests) {
    return resource_exhausted(fmt::format("{} requests are waiting, no more are queued", queue.requests));
  }
  // A request larger than the limit is taken by an empty queue, else it could never run.
  if (limits.tokens > 0 && queue.tokens > 0 && queue.tokens + demand.tokens > limits.tokens) {
    return resource_exhausted(
        fmt::format("{} tokens are waiting, at most {} are queued", queue.tokens, limits.tokens));
  }
  const double wait_s = expected_wait_s(queue, demand);
  if (limits.wait_s > 0 && wait_s > limits.wait_s) {
    return resource_exhausted(
        fmt::format("the queue takes {:.1f} s, at most {:.1f} s are allowed", wait_s, limits.wait_s));
  }
  const double prefill_wait_s = std::max(wait_s, expected_prefill_wait_s(queue));
  if (limits.prefill_wait_s > 0 && prefill_wait_s > limits.prefill_wait_s) {
    return resource_exhausted(fmt::format("a prompt's turn comes in {:.2f} s, at most {:.2f} s are allowed",
                                          prefill_wait_s, limits.prefill_wait_s));
  }
  if (demand.deadline_s > 0 && wait_s > demand.deadline_s) {
    return resource_exhausted(fmt::format("the queue takes {:.1f} s, the request's deadline is in {:.1f} s",
                                          wait_s, demand.deadline_s));
  }
  return {};
}

void ServiceRate::observe(double busy_s, int64_t tokens) {
  const double kept = std::exp(-busy_s / kMemorySeconds);
  tokens_ = tokens_ * kept + static_cast<double>(tokens);
  seconds_ = seconds_ * kept + busy_s;
}

}  // namespace gantry

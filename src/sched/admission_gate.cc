#include "sched/admission_gate.h"

#include <utility>

namespace gantry {

AdmissionGate::AdmissionGate(const QueueLimits& limits, const Scheduler& scheduler) : limits_(limits) {
  observe(scheduler, scheduler.stats(), 0);
}

Status AdmissionGate::enter(const GenerateRequest& request, int64_t now_ns) {
  const QueueDemand demand = queue_demand(request, outputs_, now_ns);
  if (!request.admitted) GANTRY_RETURN_IF_ERROR(admit_to_queue(state(), limits_, demand));
  ++entered_.requests;
  entered_.tokens += demand.tokens;
  entered_.prompt_tokens += static_cast<int64_t>(request.prompt.size());
  return {};
}

void AdmissionGate::hand_over() { handed_over_ = std::exchange(entered_, {}); }

QueueState AdmissionGate::state() const {
  QueueState state = inside_;
  state.requests += outside_requests();
  state.tokens += outside_tokens();
  state.prompt_tokens += entered_.prompt_tokens + handed_over_.prompt_tokens;
  return state;
}

void AdmissionGate::observe(const Scheduler& scheduler, const ReplicaStats& stats, int64_t now_ns) {
  handed_over_ = {};
  outputs_ = scheduler.outputs();
  const double step_s = static_cast<double>(now_ns - std::exchange(observed_ns_, now_ns)) * 1e-9;
  const int64_t served = scheduler.served_tokens();
  const int64_t prompts = scheduler.served_prompt_tokens();
  service_.observe(step_s, served - std::exchange(observed_tokens_, served));
  const int64_t of_step = prompts - std::exchange(observed_prompt_tokens_, prompts);
  if (of_step > 0) prefill_.observe(step_s, of_step);
  inside_ = {.requests = scheduler.waiting_requests(),
             .tokens = stats.waiting_tokens,
             .free_slots = scheduler.free_slots(),
             .free_kv_tokens = int64_t{stats.kv_blocks_total - stats.kv_blocks_used} * limits::kKvBlockTokens,
             .tokens_per_s = service_.tokens_per_s(),
             .prompt_tokens = scheduler.prompt_tokens_ahead(),
             .prompt_tokens_per_s = prefill_.tokens_per_s()};
}

}  // namespace gantry

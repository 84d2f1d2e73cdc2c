#include "sched/testing/simulation.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace gantry {
namespace {

constexpr int64_t kStepsMax = 200'000;

int32_t between(std::mt19937_64& random, int32_t low, int32_t high) {
  return low + static_cast<int32_t>(random() % static_cast<uint64_t>(high - low + 1));
}
bool percent(std::mt19937_64& random, int32_t p) { return between(random, 0, 99) < p; }

// Without a block to spare: preemption all the time.
int32_t admit_recklessly(const BlockDemand& demand, const BlockSupply& supply) {
  return demand.cached_free + demand.known <= supply.available - supply.promised ? demand.known : kNotNow;
}

}  // namespace

SimulationOptions random_simulation(uint64_t seed) {
  std::mt19937_64 random(SimulatedModel::mix(seed + 1));
  SimulationOptions o;
  SchedulerOptions& s = o.scheduler;
  s.drafts = percent(random, 50) ? 0 : between(random, 1, 3);
  s.pipeline_stages = between(random, 1, 4);
  s.lookahead = percent(random, 50);
  s.prefix_caching = percent(random, 70);
  s.kv_blocks = percent(random, 60) ? between(random, 3, 10) : between(random, 11, 60);
  s.max_model_len = std::min(between(random, 8, 320), s.kv_blocks * limits::kKvBlockTokens + 1);
  s.max_num_seqs = between(random, 1, 8);
  s.max_num_batched_tokens =
      percent(random, 30) ? 1 + s.drafts + between(random, 0, 8) : between(random, 16, 400);
  s.logit_rows_max = 1 + s.drafts + (percent(random, 30) ? between(random, 0, 4) : between(random, 8, 80));
  s.hash_seed = random();
  if (percent(random, 40)) s.chunk.rows_beside_decodes = between(random, 1, 64);
  if (percent(random, 50)) s.chunk.context_per_row = between(random, 1, 300);
  const int32_t admission = between(random, 0, 2);
  if (admission == 1) s.policies.admit = admit_if_it_can_end;
  if (admission == 2) s.policies.admit = admit_recklessly;
  o.prompt_max = std::max(1, std::min(s.max_model_len - 2, percent(random, 50) ? 250 : 40));
  o.output_max = percent(random, 50) ? between(random, 1, 40) : between(random, 40, 200);
  o.requests = between(random, 5, 40);
  o.arrivals_per_step = between(random, 1, 8);
  return o;
}

Simulation::Simulation(const SimulationOptions& options, uint64_t seed)
    : options_(options),
      random_(SimulatedModel::mix(seed)),
      scheduler_(options.scheduler),
      peer_{scheduler_},
      device_(options.scheduler.kv_blocks, options.scheduler.max_num_seqs, options.scheduler.kv_blocks,
              options.scheduler.drafts, seed) {
  for (int32_t i = 0; i < options.prompt_max; ++i)
    shared_prefix_.push_back(between(random_, 0, model_.vocab - 1));
}

void Simulation::fail(const std::string& what) {
  if (error_.empty()) error_ = fmt::format("step {}: {}", steps_, what);
}

GenerateRequest Simulation::random_request() {
  GenerateRequest r;
  r.id = RequestId{next_id_++};
  const int32_t length = between(random_, 1, options_.prompt_max);
  const int32_t shared = percent(random_, options_.shared_prefix_percent) ? between(random_, 0, length) : 0;
  r.prompt.assign(shared_prefix_.begin(), shared_prefix_.begin() + shared);
  while (static_cast<int32_t>(r.prompt.size()) < length)
    r.prompt.push_back(between(random_, 0, model_.vocab - 1));
  r.cache_salt = percent(random_, 20) ? "other" : "";
  r.tenant = percent(random_, 30) ? "small" : percent(random_, 50) ? "flood" : "";
  r.priority = percent(random_, 20) ? between(random_, -1, 1) : 0;
  if (percent(random_, options_.deadline_percent)) r.deadline_ns = now_ns_ + between(random_, 0, 200);
  SamplingParams& p = r.params;
  p.n = percent(random_, 25) ? between(random_, 2, 5) : 1;
  p.max_tokens = between(
      random_, 1, std::max(1, std::min(options_.output_max, options_.scheduler.max_model_len - length)));
  p.min_tokens = percent(random_, 30) ? between(random_, 0, p.max_tokens) : 0;
  p.seed = random_();
  p.ignore_eos = percent(random_, 20);
  p.eos_token_ids = {between(random_, 0, model_.vocab - 1)};
  if (percent(random_, 30)) p.stop_token_ids = {between(random_, 0, model_.vocab - 1)};
  if (percent(random_, options_.echo_percent)) {
    p.prompt_logprobs = 0;
    if (percent(random_, 50)) p.max_tokens = p.min_tokens = 0;
  }
  return r;
}

void Simulation::arrive() {
  const auto left = options_.requests - static_cast<int32_t>(next_id_) + 1;
  const int32_t count = std::min(left, between(random_, 0, options_.arrivals_per_step));
  for (int32_t i = 0; i < count; ++i) {
    GenerateRequest r = random_request();
    if (!scheduler_.check_fits(r).ok()) {
      fail("a request that fits is refused: " + scheduler_.check_fits(r).message());
      continue;
    }
    Stream stream;
    stream.request = r;
    for (int32_t choice = 0; choice < r.params.n; ++choice) {
      stream.expected.push_back(model_.stream(r, choice, r.params.max_tokens));
    }
    stream.received.resize(stream.expected.size());
    stream.finish.resize(stream.expected.size(), FinishReason::kNone);
    streams_.emplace(r.id.value, std::move(stream));
    scheduler_.add(std::move(r), now_ns_, frame_);
  }
}

// Clients go away, one choice or the whole stream; a front resubmits what it has under a new epoch.
void Simulation::cancel_some() {
  if (streams_.empty()) return;
  const int32_t steps_per_stream = 8;
  if (!percent(random_, std::max(1, options_.cancel_percent / steps_per_stream))) return;
  auto it = streams_.begin();
  std::advance(it, between(random_, 0, static_cast<int32_t>(streams_.size()) - 1));
  Stream& stream = it->second;
  if (percent(random_, options_.resubmit_percent)) {
    if (stream.cancelled) return;
    GenerateRequest again = stream.request;
    ++again.epoch;
    again.emitted = stream.received;
    for (const FinishReason f : stream.finish) again.finished.push_back(f != FinishReason::kNone);
    if (stream.scores_committed) again.params.prompt_logprobs = again.params.max_tokens > 0 ? -1 : 0;
    if (std::find(again.finished.begin(), again.finished.end(), false) == again.finished.end()) return;
    stream.request.epoch = again.epoch;
    if (again.params.prompt_logprobs >= 0) stream.scored = false;
    scheduler_.add(std::move(again), now_ns_, frame_);
    return;
  }
  const int32_t choice = between(random_, -1, stream.request.params.n - 1);
  for (int32_t c = 0; c < stream.request.params.n; ++c) {
    FinishReason& finish = stream.finish[static_cast<size_t>(c)];
    if ((choice < 0 || choice == c) && finish == FinishReason::kNone) finish = FinishReason::kCancelled;
  }
  if (choice < 0) stream.cancelled = true;
  scheduler_.cancel(RequestId{it->first}, choice);
}

void Simulation::take_frame() {
  for (const PromptLogprobs& prompt : frame_.prompts) {
    Stream& stream = streams_.at(prompt.request.value);
    if (stream.scored || prompt.epoch != stream.request.epoch) fail("prompt logprobs come twice");
    stream.scored = stream.scores_committed = true;
    if (prompt.tokens.size() + 1 != stream.request.prompt.size()) fail("prompt logprobs are incomplete");
    for (size_t i = 0; i < prompt.tokens.size(); ++i) {
      const bool right = prompt.tokens[i].id == stream.request.prompt[i + 1] &&
                         prompt.tokens[i].logprob == static_cast<float>(i + 1);
      if (!right) fail("prompt logprobs are of another position");
    }
  }
  for (const TokenEvent& event : frame_.tokens) check_event(event);
  frame_.prompts.clear();
  frame_.tokens.clear();
}

void Simulation::collect_oldest() {
  device_.collect(result_);
  scheduler_.advance(result_, now_ns_, frame_);
  touched_.erase(touched_.begin());
  take_frame();
}

void Simulation::step() {
  ++steps_;
  now_ns_ += between(random_, 0, 5);
  arrive();
  take_frame();  // before a front might begin another epoch
  cancel_some();
  scheduler_.expire(now_ns_, frame_);
  take_frame();
  check_books();
  bool planned = true;
  while (planned && error_.empty() && (scheduler_.tickets_in_flight() == 0 || percent(random_, 70))) {
    ran_before_.clear();
    for (const Sequence* running : peer_.running()) ran_before_.emplace_back(running->id, running->run);
    planned = scheduler_.schedule(now_ns_, plan_);
    if (!planned) break;
    check_plan(plan_);
    device_.submit(plan_);
    check_books();
  }
  if (!planned && scheduler_.tickets_in_flight() == 0 && scheduler_.has_open_requests()) {
    fail("nothing runs although requests are open");
  }
  while (error_.empty() && scheduler_.tickets_in_flight() > 0) {
    collect_oldest();
    check_books();
    if (scheduler_.tickets_in_flight() < scheduler_.tickets_max() && percent(random_, 70)) break;
  }
  if (!device_.error().empty()) fail(device_.error());
}

std::string Simulation::run(const Fault& fault) {
  bool faulty = static_cast<bool>(fault);
  while (error_.empty() && steps_ < kStepsMax) {
    const bool all_arrived = static_cast<int32_t>(next_id_) > options_.requests;
    if (all_arrived && !scheduler_.has_open_requests() && scheduler_.tickets_in_flight() == 0) break;
    step();
    if (faulty && error_.empty() && fault(peer_)) {
      faulty = false;
      check_books();
    }
  }
  if (!error_.empty()) return error_;
  if (steps_ == kStepsMax) return "the traffic is never served";
  for (const auto& [id, stream] : streams_) {
    for (const FinishReason finish : stream.finish) {
      if (finish == FinishReason::kNone) fail(fmt::format("request {} never ends", id));
    }
    const bool all_cancelled = std::all_of(stream.finish.begin(), stream.finish.end(),
                                           [](FinishReason f) { return f == FinishReason::kCancelled; });
    if (stream.request.params.prompt_logprobs >= 0 && !stream.scores_committed && !all_cancelled) {
      fail(fmt::format("request {} gets no prompt logprobs", id));
    }
  }
  if (peer_.pool().used() != 0)
    fail(fmt::format("{} blocks are used after all is done", peer_.pool().used()));
  return error_;
}

}  // namespace gantry

#include "sched/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace gantry {
namespace {

const char* describe(SampleError error) {
  return error == SampleError::kLogitsNotFinite ? "the model computed values that are not finite"
                                                : "no token is left to choose from";
}

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options)
    : options_(options), kv_(options.kv_blocks, options.prefix_caching, options.hash_seed) {
  GANTRY_CHECK(options.max_num_seqs >= 1 && options.pipeline_stages >= 1);
  GANTRY_CHECK(options.drafts >= 0 && options.drafts <= kDraftsMax);
  GANTRY_CHECK(options.max_num_batched_tokens >= 1 + options.drafts);
  GANTRY_CHECK(options.logit_rows_max >= 1 + options.drafts);
  slots_.resize(static_cast<size_t>(options.max_num_seqs));
  for (int32_t slot = options.max_num_seqs; slot-- > 0;) free_slots_.push_back(slot);
  running_.reserve(slots_.size());
}

int32_t Scheduler::tickets_max() const { return options_.pipeline_stages * (options_.lookahead ? 2 : 1); }

Status Scheduler::check_fits(const GenerateRequest& request) const {
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  const int64_t total = prompt + request.params.max_tokens;
  if (prompt < 1) return invalid_argument("the prompt is empty, at least 1 token is needed", "prompt");
  const int64_t max_len =
      std::min<int64_t>(options_.max_model_len, int64_t{options_.kv_blocks} * limits::kKvBlockTokens + 1);
  if (prompt >= max_len && request.params.max_tokens > 0) {
    return invalid_argument(
        fmt::format("the prompt has {} tokens, at most {} fit (prompt and output together: {})", prompt,
                    max_len - 1, max_len),
        "prompt");
  }
  if (total > max_len) {
    return invalid_argument(
        fmt::format(
            "prompt ({} tokens) and max_tokens ({}) together are {}, at most {} fit: max_tokens at most {}",
            prompt, request.params.max_tokens, total, max_len, max_len - prompt),
        "max_tokens");
  }
  return {};
}

RequestState* Scheduler::find(RequestId request) {
  const auto it = requests_.find(request);
  return it == requests_.end() ? nullptr : it->second.get();
}

void Scheduler::enqueue(Sequence& sequence) {
  const auto before = [&](const Sequence* a, const Sequence* b) { return options_.policies.before(*a, *b); };
  waiting_.insert(std::upper_bound(waiting_.begin(), waiting_.end(), &sequence, before), &sequence);
}

void Scheduler::count_waiting(const RequestState& request, int32_t sign) {
  waiting_requests_ += sign;
  waiting_tokens_ += sign * request.cost;
  waiting_prompt_tokens_ += sign * static_cast<int64_t>(request.spec->prompt.size());
}

int64_t Scheduler::prompt_tokens_ahead() const {
  int64_t running = 0;
  int64_t longest = 0;
  for (const Sequence* sequence : running_) {
    if (sequence->sampled_on_ranks) continue;
    const int64_t left = sequence->length() - sequence->computed;
    running += left;
    longest = std::max(longest, left);
  }
  return waiting_prompt_tokens_ + running - longest;
}

void Scheduler::add(GenerateRequest request, int64_t now_ns, StepFrame& frame) {
  cancel(request.id, -1);
  auto state = std::make_unique<RequestState>();
  state->arrival = ++last_arrival_;
  state->submitted_ns = now_ns;
  state->scores.request = request.id;
  state->scores.epoch = request.epoch;
  const auto n = static_cast<size_t>(request.params.n);
  std::vector<std::vector<TokenId>> emitted = std::exchange(request.emitted, {});
  emitted.resize(n);
  request.finished.resize(n, false);
  if (request.deadline_ns != 0) next_deadline_ns_ = std::min(next_deadline_ns_, request.deadline_ns);
  const RequestId id = request.id;
  state->spec = std::make_shared<const GenerateRequest>(std::move(request));
  const GenerateRequest& spec = *state->spec;
  counters_.prompt_tokens += static_cast<int64_t>(spec.prompt.size());

  state->block_owner = kv_.owner_of(spec);
  state->cost = queue_demand(spec, outputs_, now_ns).tokens;
  state->choices.resize(n);
  for (size_t i = 0; i < n; ++i) {
    if (spec.finished[i]) continue;
    auto sequence = std::make_unique<Sequence>();
    sequence->id = SeqId{++last_sequence_};
    sequence->request = state.get();
    sequence->choice = static_cast<int32_t>(i);
    sequence->generated = std::move(emitted[i]);
    state->choices[i] = std::move(sequence);
    ++state->open;
  }
  if (state->open == 0) return;
  if (state->wants_scores() && spec.prompt.size() == 1) frame.prompts.push_back(state->scores);
  RequestState& added = *state;
  requests_.emplace(id, std::move(state));
  added.share_tag = share_.arrive(spec.tenant, added.cost);
  count_waiting(added, 1);
  for (const auto& sequence : added.choices) {
    if (!sequence) continue;
    enqueue(*sequence);
    // Its last token was committed, but the event that said it was the last is lost with the replica.
    if (spec.params.max_tokens > 0 &&
        static_cast<int32_t>(sequence->generated.size()) >= spec.params.max_tokens) {
      end_with(*sequence, FinishReason::kLength, {}, now_ns, frame);
    }
  }
  sweep();
}

void Scheduler::cancel(RequestId request, int32_t choice) {
  RequestState* state = find(request);
  if (state == nullptr) return;
  for (const auto& sequence : state->choices) {
    if (sequence && (choice < 0 || sequence->choice == choice)) end(*sequence);
  }
  sweep();
}

void Scheduler::expire(int64_t now_ns, StepFrame& frame) {
  if (now_ns < next_deadline_ns_) return;
  next_deadline_ns_ = kNever;
  std::vector<RequestState*> late;
  for (const auto& [id, state] : requests_) {
    const int64_t deadline = state->spec->deadline_ns;
    if (deadline == 0) continue;
    if (deadline <= now_ns) {
      late.push_back(state.get());
    } else {
      next_deadline_ns_ = std::min(next_deadline_ns_, deadline);
    }
  }
  for (RequestState* state : late) {
    for (const auto& sequence : state->choices) {
      if (sequence) {
        end_with(*sequence, FinishReason::kCancelled, "the deadline of the request passed", now_ns, frame);
      }
    }
  }
  sweep();
}

void Scheduler::end_all(FinishReason reason, const std::string& why, int64_t now_ns, StepFrame& frame) {
  std::vector<RequestState*> all;
  for (const auto& [id, state] : requests_) all.push_back(state.get());
  for (RequestState* state : all) {
    for (const auto& sequence : state->choices) {
      if (sequence) end_with(*sequence, reason, why, now_ns, frame);
    }
  }
  sweep();
}

TokenEvent& Scheduler::emit(Sequence& sequence, int64_t now_ns, StepFrame& frame) {
  TokenEvent& event = frame.tokens.emplace_back();
  event.request = sequence.spec().id;
  event.epoch = sequence.spec().epoch;
  event.choice = sequence.choice;
  event.index = static_cast<int32_t>(sequence.generated.size());
  if (!sequence.announced) {
    sequence.announced = true;
    event.cached_prompt_tokens = sequence.cached_prompt_tokens;
    const int64_t started = sequence.started_ns != 0 ? sequence.started_ns : now_ns;
    event.queue_ns = started - sequence.request->submitted_ns;
    event.prefill_ns = now_ns - started;
    sequence.first_token_ns = now_ns;
  }
  return event;
}

void Scheduler::end_with(Sequence& sequence, FinishReason reason, const std::string& error, int64_t now_ns,
                         StepFrame& frame) {
  if (sequence.state == SequenceState::kFinished) return;
  TokenEvent& event = emit(sequence, now_ns, frame);
  event.finish = reason;
  event.error = error;
  event.decode_ns = now_ns - sequence.first_token_ns;
  end(sequence);
}

void Scheduler::end(Sequence& sequence) {
  if (sequence.state == SequenceState::kFinished) return;
  const bool ran = sequence.state == SequenceState::kRunning;
  std::erase(ran ? running_ : waiting_, &sequence);
  kv_.release(sequence);
  sequence.state = SequenceState::kFinished;
  if (sequence.in_flight == 0) free_slot(sequence);

  RequestState& request = *sequence.request;
  // One choice at a time scores the prompt: the next one goes on where the results of this one end.
  if (ran) request.scores_planned = request.scores_received();
  request.served += service_cost(0, static_cast<int64_t>(sequence.generated.size()));
  if (--request.open > 0) return;
  if (!std::exchange(request.taken_up, true)) count_waiting(request, -1);
  share_.leave(request.spec->tenant, request.cost, request.served);
  const auto it = requests_.find(request.spec->id);
  leaving_.push_back(std::move(it->second));
  requests_.erase(it);
}

void Scheduler::free_slot(Sequence& sequence) {
  if (sequence.slot < 0) return;
  slots_[static_cast<size_t>(sequence.slot)] = nullptr;
  free_slots_.push_back(std::exchange(sequence.slot, -1));
}

void Scheduler::sweep() {
  std::erase_if(leaving_, [](const std::unique_ptr<RequestState>& request) {
    return std::all_of(request->choices.begin(), request->choices.end(),
                       [](const auto& sequence) { return !sequence || sequence->in_flight == 0; });
  });
}

void Scheduler::advance(const StepResult& result, int64_t now_ns, StepFrame& frame) {
  GANTRY_CHECK(!flights_.empty() && flights_.front().ticket == result.ticket)
      << "ticket " << result.ticket.value << " is not the oldest in flight";
  Flight flight = std::move(flights_.front());
  flights_.pop_front();
  kv_.retire(flight.ticket);
  size_t next = 0;
  for (const FlightRows& rows : flight.rows) {
    Sequence& sequence = *rows.sequence;
    const SequenceResult* given = nullptr;
    if (next < result.sequences.size() && result.sequences[next].sequence == sequence.id) {
      given = &result.sequences[next++];
    }
    take_rows(sequence, rows, given, result, now_ns, frame);
    if (--sequence.in_flight == 0 && sequence.state == SequenceState::kFinished) free_slot(sequence);
  }
  GANTRY_CHECK(next == result.sequences.size()) << "a result for a sequence that is not in the ticket";
  spare_.push_back(std::move(flight));
  sweep();
}

void Scheduler::take_rows(Sequence& sequence, const FlightRows& rows, const SequenceResult* given,
                          const StepResult& result, int64_t now_ns, StepFrame& frame) {
  if (given != nullptr && given->scores > 0) take_scores(*sequence.request, *given, result, frame);
  if (sequence.state == SequenceState::kFinished || rows.run != sequence.run) return;
  if (rows.sampled > 0) --sequence.sampling;
  if (given != nullptr && given->error != SampleError::kNone) {
    end_with(sequence, FinishReason::kError, describe(given->error), now_ns, frame);
    return;
  }
  GANTRY_CHECK(rows.sampled == 0 || given != nullptr) << "no result for a sequence that sampled";
  const int32_t accepted = rows.sampled > 0 ? given->accepted : 0;
  GANTRY_CHECK(rows.sampled == 0 || (accepted >= 1 && accepted <= rows.sampled));
  sequence.planned -= rows.sampled - accepted;
  sequence.computed += rows.rows - (rows.sampled - accepted);
  if (rows.sampled > 1) {
    ++counters_.drafted_steps;
    counters_.drafts += rows.sampled - 1;
  }
  served_tokens_ += service_cost(rows.rows - rows.sampled, accepted);
  served_prompt_tokens_ += rows.rows - rows.sampled;

  FinishReason finish = FinishReason::kNone;
  for (int32_t i = 0; i < accepted && finish == FinishReason::kNone; ++i) {
    const SampledToken& sampled = result.tokens[static_cast<size_t>(given->first_token + i)];
    TokenEvent& event = emit(sequence, now_ns, frame);
    const Sequence::Verdict verdict = sequence.accept(sampled.id);
    finish = verdict.finish;
    (verdict.appended ? event.token : event.stop_token) = sampled.id;
    event.finish = finish;
    event.logprob = sampled.logprob;
    // The next row took the draft that this token turned out to be.
    if (i + 1 < accepted) {
      event.accepted_drafts = 1;
      ++counters_.accepted_drafts[static_cast<size_t>(i)];
    }
    if (i == 0) event.rejected_drafts = rows.sampled - accepted;
    const auto top = result.top.begin() + sampled.first_top;
    event.top.assign(top, top + sampled.tops);
    if (finish != FinishReason::kNone) event.decode_ns = now_ns - sequence.first_token_ns;
    counters_.generated_tokens += verdict.appended ? 1 : 0;
    counters_.last_token_ns = now_ns;
  }
  kv_.publish(sequence);
  if (finish == FinishReason::kStop || finish == FinishReason::kLength) {
    outputs_.ended(static_cast<int64_t>(sequence.generated.size()));
  }
  if (finish != FinishReason::kNone) {
    end(sequence);
  } else if (sequence.spec().params.max_tokens == 0 && sequence.computed >= sequence.prompt_length()) {
    end_with(sequence, FinishReason::kLength, {}, now_ns, frame);
  }
}

void Scheduler::take_scores(RequestState& request, const SequenceResult& given, const StepResult& result,
                            StepFrame& frame) {
  if (request.open == 0) return;
  const auto prompt = static_cast<int32_t>(request.spec->prompt.size());
  for (int32_t i = 0; i < given.scores; ++i) {
    // Another choice may have scored this position in the meantime.
    if (given.score_position + i != request.scores_received()) continue;
    const SampledToken& score = result.scores[static_cast<size_t>(given.first_score + i)];
    request.scores.tokens.push_back({score.id, score.logprob});
    const auto top = result.top.begin() + score.first_top;
    request.scores.top.emplace_back(top, top + score.tops);
    if (request.scores_received() == prompt) frame.prompts.push_back(request.scores);
  }
}

ReplicaStats Scheduler::stats() const {
  ReplicaStats stats = counters_;
  stats.running = static_cast<int32_t>(running_.size());
  stats.waiting = static_cast<int32_t>(waiting_.size());
  stats.waiting_tokens = waiting_tokens_;
  stats.kv_blocks_used = kv_.pool().used();
  stats.kv_blocks_total = kv_.pool().total();
  return stats;
}

}  // namespace gantry

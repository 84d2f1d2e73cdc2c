// How a plan is filled: decodes first, then prompts that run, then prompts that wait.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "sched/scheduler.h"

namespace gantry {

bool Scheduler::schedule(int64_t now_ns, StepPlan& plan) {
  plan.clear();
  if (tickets_in_flight() >= tickets_max()) return false;
  plan.ticket = Ticket{last_ticket_ + 1};
  Budget budget{options_.max_num_batched_tokens, options_.logit_rows_max};
  short_of_blocks_ = false;
  plan_decodes(budget, plan);
  budget.decodes = !plan.sequences.empty();
  plan_prefills(budget, plan);
  admit_waiting(now_ns, budget, plan);
  if (plan.sequences.empty()) return false;

  ++last_ticket_;
  Flight flight;
  if (!spare_.empty()) {
    flight = std::move(spare_.back());
    spare_.pop_back();
  }
  flight.ticket = plan.ticket;
  flight.rows.clear();
  for (const PlanRows& rows : plan.sequences) {
    Sequence& sequence = *slots_[static_cast<size_t>(rows.slot)];
    flight.rows.push_back({&sequence, rows.rows, rows.sampled, sequence.run});
  }
  flights_.push_back(std::move(flight));
  ++counters_.steps;
  return true;
}

// A row follows those of an earlier ticket stage by stage; one that needs a sampled token follows the last
// stage.
bool Scheduler::may_join(const Sequence& sequence, Ticket ticket) const {
  return sequence.sampling == 0 ||
         ticket.value >= sequence.last_ticket.value + static_cast<uint64_t>(options_.pipeline_stages);
}

void Scheduler::plan_decodes(Budget& budget, StepPlan& plan) {
  // Who was served longest ago is first, in case that not all fit.
  order_.assign(running_.begin(), running_.end());
  std::sort(order_.begin(), order_.end(), [](const Sequence* a, const Sequence* b) {
    return std::pair(a->last_ticket, a->id) < std::pair(b->last_ticket, b->id);
  });
  // Micro-batches of equal size keep all stages busy.
  const auto decoding = std::count_if(order_.begin(), order_.end(), [](const Sequence* sequence) {
    return sequence->sampling > 0 || sequence->rows_left(false) == 1;
  });
  auto share = (decoding + options_.pipeline_stages - 1) / options_.pipeline_stages;
  for (Sequence* sequence : order_) {
    if (share == 0) return;
    if (sequence->state != SequenceState::kRunning || sequence->rows_left(options_.lookahead) != 1 ||
        !may_join(*sequence, plan.ticket)) {
      continue;
    }
    if (plan_rows(*sequence, 1, budget, plan)) {
      --share;
    } else if (!short_of_blocks_) {
      return;
    }
  }
}

void Scheduler::plan_prefills(Budget& budget, StepPlan& plan) {
  order_.assign(running_.begin(), running_.end());
  std::sort(order_.begin(), order_.end(),
            [&](const Sequence* a, const Sequence* b) { return options_.policies.before(*a, *b); });
  for (Sequence* sequence : order_) {
    const int32_t wanted = sequence->rows_left(false);
    if (sequence->state != SequenceState::kRunning || wanted <= 1) continue;
    const int32_t chunk = chunk_of(*sequence, wanted, budget);
    if (chunk <= 0 || !plan_rows(*sequence, chunk, budget, plan)) return;
  }
}

bool Scheduler::make_room(Sequence& sequence, int32_t positions, const StepPlan& plan) {
  while (!kv_.grow(sequence, positions)) {
    short_of_blocks_ = true;
    if (kv_.pool().returning() >= KvLedger::missing(sequence, positions)) return false;
    Sequence* last = nullptr;
    for (Sequence* other : running_) {
      if (other->last_ticket == plan.ticket || !options_.policies.before(sequence, *other)) continue;
      if (last == nullptr || options_.policies.before(*last, *other)) last = other;
    }
    if (last == nullptr) return false;  // those before it will end, or take its blocks
    preempt(*last);
  }
  return true;
}

void Scheduler::preempt(Sequence& sequence) {
  kv_.release(sequence);
  free_slot(sequence);
  std::erase(running_, &sequence);
  sequence.state = SequenceState::kWaiting;
  ++sequence.run;
  sequence.computed = sequence.planned = sequence.sampling = 0;
  sequence.published = sequence.blocks_on_ranks = 0;
  sequence.on_ranks = sequence.sampled_on_ranks = false;
  sequence.request->scores_planned = sequence.request->scores_received();
  enqueue(sequence);
  ++counters_.preemptions;
}

bool Scheduler::waits_for_sibling(const Sequence& sequence) const {
  const int32_t shareable = (sequence.prompt_length() - 1) / limits::kKvBlockTokens;
  for (const auto& other : sequence.request->choices) {
    if (!other || other.get() == &sequence || other->state != SequenceState::kRunning) continue;
    if (other->published < shareable) return true;
    if (sequence.request->wants_scores() && sequence.request->scores_received() < sequence.prompt_length())
      return true;
  }
  return false;
}

void Scheduler::admit_waiting(int64_t now_ns, Budget& budget, StepPlan& plan) {
  size_t kept = 0;
  size_t next = 0;
  for (; next < waiting_.size(); ++next) {
    Sequence& sequence = *waiting_[next];
    if (short_of_blocks_ || budget.rows <= 0 || budget.logit_rows <= 0 || free_slots_.empty()) break;
    if (waits_for_sibling(sequence)) {
      waiting_[kept++] = &sequence;
      continue;
    }
    if (chunk_of(sequence, sequence.length(), budget) <= 0) break;
    RequestState& request = *sequence.request;
    const bool scores = request.wants_scores() && request.scores_planned < sequence.prompt_length();
    const int32_t reuse_max = scores ? request.scores_planned - 1 : sequence.positions_max();
    const auto running = static_cast<int32_t>(running_.size());
    if (!kv_.admit(sequence, reuse_max, running, options_.policies.admit)) break;
    start(sequence, now_ns);
    const int32_t chunk = chunk_of(sequence, sequence.rows_left(false), budget);
    if (chunk > 0) plan_rows(sequence, chunk, budget, plan);
  }
  waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(kept),
                 waiting_.begin() + static_cast<std::ptrdiff_t>(next));
}

void Scheduler::start(Sequence& sequence, int64_t now_ns) {
  sequence.slot = free_slots_.back();
  free_slots_.pop_back();
  slots_[static_cast<size_t>(sequence.slot)] = &sequence;
  sequence.state = SequenceState::kRunning;
  running_.push_back(&sequence);
  RequestState& request = *sequence.request;
  const bool first_choice = !std::exchange(request.taken_up, true);
  if (first_choice) {
    count_waiting(request, -1);
    share_.take_up(request.share_tag);
  }
  if (sequence.started_ns == 0) {
    sequence.started_ns = now_ns;
    sequence.cached_prompt_tokens = std::min(sequence.computed, sequence.prompt_length());
    counters_.prefix_queries += sequence.prompt_length();
    counters_.prefix_hits += sequence.cached_prompt_tokens;
    // The choices share one prompt: the others are charged what they compute of it.
    if (first_choice) {
      served_tokens_ += sequence.cached_prompt_tokens;
      served_prompt_tokens_ += sequence.cached_prompt_tokens;
      request.served += sequence.prompt_length();
    } else {
      request.served += sequence.prompt_length() - sequence.cached_prompt_tokens;
    }
  }
}

int32_t Scheduler::chunk_of(const Sequence& sequence, int32_t wanted, const Budget& budget) const {
  return options_.policies.prefill_chunk({.wanted = wanted,
                                          .budget = budget.rows,
                                          .position = sequence.planned,
                                          .decodes = budget.decodes,
                                          .spent = budget.prefill_cost},
                                         options_.chunk);
}

bool Scheduler::plan_rows(Sequence& sequence, int32_t rows_max, Budget& budget, StepPlan& plan) {
  const bool awaits = sequence.sampling > 0;
  const bool decode = awaits || (sequence.sampled_on_ranks && sequence.rows_left(false) == 1);
  const bool samples = sequence.spec().params.max_tokens > 0;
  int32_t rows = std::min(rows_max, budget.rows);
  int32_t drafts = 0;
  if (decode) drafts = std::min(options_.drafts, sequence.positions_max() - sequence.planned - 1);
  rows += drafts;
  if (rows <= 0 || rows > budget.rows) return false;
  const int32_t first = sequence.planned;

  PlanRows out;
  // Echo: the row at position p scores the prompt's token p + 1.
  RequestState& request = *sequence.request;
  const int32_t prompt = sequence.prompt_length();
  if (request.wants_scores() && request.scores_planned < prompt && first < request.scores_planned) {
    rows = std::min(rows, request.scores_planned - first - 1 + budget.logit_rows);
    out.score_first = request.scores_planned - 1 - first;
    out.scores = std::max(std::min(first + rows, prompt - 1) - (request.scores_planned - 1), 0);
    if (rows <= 0) return false;
  }
  if (samples && (awaits || first + rows - drafts == sequence.length())) {
    if (out.scores + 1 + drafts > budget.logit_rows) {
      if (decode || rows == 1) return false;
      --rows;  // the last row of the prompt waits for a plan with room for its logits
      out.scores = std::max(std::min(out.scores, rows - out.score_first), 0);
    } else {
      out.sampled = 1 + drafts;
    }
  }
  // The draft module writes the new token's entry and those of its drafts ahead of the model.
  out.reserved = first + rows;
  if (out.sampled > 0) out.reserved = std::min(first + rows + options_.drafts, sequence.positions_max());
  if (!make_room(sequence, out.reserved, plan)) return false;

  if (!sequence.on_ranks) {
    sequence.on_ranks = true;
    plan.starts.push_back({sequence.id, sequence.slot, sequence.choice, request.spec, sequence.generated});
  }
  out.sequence = sequence.id;
  out.slot = sequence.slot;
  out.first_row = static_cast<int32_t>(plan.ids.size());
  out.rows = rows;
  out.first_position = first;
  if (awaits) out.awaits = sequence.last_ticket;
  for (int32_t i = 0; i < rows; ++i) {
    plan.ids.push_back(awaits || first + i >= sequence.length() ? kTokenOnDevice : sequence.token(first + i));
  }
  out.first_block = static_cast<int32_t>(plan.blocks.size());
  out.table_index = sequence.blocks_on_ranks;
  out.new_blocks = static_cast<int32_t>(sequence.blocks.size()) - sequence.blocks_on_ranks;
  plan.blocks.insert(plan.blocks.end(), sequence.blocks.end() - out.new_blocks, sequence.blocks.end());
  sequence.blocks_on_ranks = static_cast<int32_t>(sequence.blocks.size());
  plan.logit_rows += out.sampled + out.scores;
  plan.sequences.push_back(out);

  request.scores_planned += out.scores;
  sequence.planned += rows;
  sequence.last_ticket = plan.ticket;
  ++sequence.in_flight;
  if (out.sampled > 0) {
    ++sequence.sampling;
    sequence.sampled_on_ranks = true;
  }
  if (!decode) budget.prefill_cost += chunk_cost(first, rows, options_.chunk);
  budget.rows -= rows;
  budget.logit_rows -= out.sampled + out.scores;
  return true;
}

}  // namespace gantry

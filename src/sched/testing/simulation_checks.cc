// The invariants. They are stated over plans, events and books, not in terms of how the scheduler works.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "sched/testing/simulation.h"

namespace gantry {
namespace {

bool contains(const std::vector<TokenId>& ids, TokenId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

bool ends(const SamplingParams& params, TokenId id) {
  return contains(params.stop_token_ids, id) || (!params.ignore_eos && contains(params.eos_token_ids, id));
}

}  // namespace

// The stream is the model's, index by index, and ends where it must.
void Simulation::check_event(const TokenEvent& event) {
  Stream& stream = streams_.at(event.request.value);
  const SamplingParams& params = stream.request.params;
  const auto choice = static_cast<size_t>(event.choice);
  std::vector<TokenId>& received = stream.received[choice];
  const std::vector<TokenId>& expected = stream.expected[choice];
  for (const uint64_t part :
       {event.request.value, static_cast<uint64_t>(event.choice), static_cast<uint64_t>(event.index),
        static_cast<uint64_t>(event.token), static_cast<uint64_t>(event.finish)}) {
    digest_ = SimulatedModel::mix(digest_ * 31 + part);
  }
  const auto name = [&] { return fmt::format("request {} choice {}", event.request.value, event.choice); };
  if (event.epoch != stream.request.epoch) return fail(name() + ": an event of an old epoch");
  if (stream.finish[choice] != FinishReason::kNone) return fail(name() + ": an event after its end");
  if (event.index != static_cast<int32_t>(received.size()))
    return fail(name() + ": an index is skipped or repeated");
  if (stream.request.params.prompt_logprobs >= 0 && !stream.scored &&
      event.finish != FinishReason::kCancelled) {
    return fail(name() + ": a token before the prompt logprobs");
  }
  stream.finish[choice] = event.finish;
  if (event.token >= 0) {
    if (event.token != expected[received.size()]) return fail(name() + ": a wrong token");
    if (event.index >= params.min_tokens && ends(params, event.token))
      return fail(name() + ": goes on after an end token");
    received.push_back(event.token);
  }
  const auto count = static_cast<int32_t>(received.size());
  const bool full = count == params.max_tokens;
  switch (event.finish) {
    case FinishReason::kNone:
      if (full) fail(name() + ": goes on after max_tokens");
      break;
    case FinishReason::kLength:
      if (!full) fail(name() + ": ends before max_tokens");
      break;
    case FinishReason::kStop:
      if (event.token != -1 || count < params.min_tokens || !ends(params, event.stop_token) ||
          expected[received.size()] != event.stop_token) {
        fail(name() + ": stops where it must not");
      }
      break;
    case FinishReason::kCancelled:
      if (stream.request.deadline_ns == 0 || now_ns_ < stream.request.deadline_ns) {
        fail(name() + ": is cancelled without a reason");
      }
      break;
    case FinishReason::kError:
      fail(name() + ": fails");
  }
}

void Simulation::check_plan(const StepPlan& plan) {
  const SchedulerOptions& o = peer_.options();
  const int32_t in_flight = scheduler_.tickets_in_flight();
  if (in_flight > o.pipeline_stages * (o.lookahead ? 2 : 1)) fail("too many tickets in flight");
  if (static_cast<int32_t>(plan.ids.size()) > o.max_num_batched_tokens) fail("the token budget is exceeded");
  if (plan.logit_rows > o.logit_rows_max) fail("the budget of logit rows is exceeded");
  if (static_cast<int32_t>(plan.sequences.size()) > o.max_num_seqs) fail("more sequences than slots");
  planned_.clear();
  int32_t rows_before = 0;
  std::vector<BlockId>& touched = touched_[plan.ticket.value];
  for (const PlanRows& rows : plan.sequences) {
    planned_.push_back(rows.sequence);
    if (rows.first_row != rows_before || rows.rows < 1) fail("rows do not lie together");
    if (rows.sampled + std::max(rows.scores, 0) > rows.rows) fail("more logits than rows");
    rows_before += rows.rows;
    for (const Sequence* sequence : peer_.running()) {
      if (sequence->id == rows.sequence &&
          KvLedger::blocks_for(rows.reserved) > static_cast<int32_t>(sequence->blocks.size())) {
        fail("positions are reserved that have no block");
      }
    }
    const int32_t drafts = rows.sampled > 0 ? o.drafts : 0;
    if (rows.reserved < rows.first_position + rows.rows ||
        rows.reserved > rows.first_position + rows.rows + drafts) {
      fail("more or less is reserved than the rows and their drafts take");
    }
  }
  if (rows_before != static_cast<int32_t>(plan.ids.size())) fail("ids that belong to no sequence");
  for (const Sequence* sequence : peer_.running()) {
    if (sequence->last_ticket == plan.ticket && sequence->in_flight > 0) {
      touched.insert(touched.end(), sequence->blocks.begin(), sequence->blocks.end());
      last_planned_[sequence->id.value] = steps_;
    }
  }
  std::sort(planned_.begin(), planned_.end());
  if (std::adjacent_find(planned_.begin(), planned_.end()) != planned_.end()) {
    fail("a sequence twice in one plan");
  }
  check_order();
}

// First come, first served within a priority; nobody waits for longer than the others' rows take.
void Simulation::check_order() {
  const SchedulerOptions& o = peer_.options();
  // Some of those taken up get no rows yet, and start in a later plan, when others may have come who go before them.
  for (const Sequence* running : peer_.running()) {
    const auto is_it = [&](const auto& before) { return before == std::pair(running->id, running->run); };
    if (std::any_of(ran_before_.begin(), ran_before_.end(), is_it)) continue;
    for (Sequence* waiting : peer_.waiting()) {
      if (by_priority_and_share(*waiting, *running) && !peer_.waits_for_sibling(*waiting)) {
        fail("a sequence is taken up before one that was first");
      }
    }
  }
  const int32_t decodes_per_plan =
      std::max(std::min(o.max_num_batched_tokens, o.logit_rows_max) / (1 + o.drafts), 1);
  const int64_t patience = 8 * (o.max_num_seqs / decodes_per_plan + 1 + o.pipeline_stages) + 8;
  for (const Sequence* running : peer_.running()) {
    if (o.policies.admit != admit_if_it_can_end) break;  // otherwise it may wait for blocks
    const bool decoding = running->sampled_on_ranks && running->in_flight == 0;
    if (!decoding) continue;
    const auto last = last_planned_.find(running->id.value);
    if (last != last_planned_.end() && steps_ - last->second > patience) fail("a decoding sequence starves");
  }
}

void Simulation::check_books() {
  if (!error_.empty()) return;
  BlockPool& pool = peer_.pool();
  if (const std::string audit = pool.audit(); !audit.empty()) return fail(audit);
  holders_.assign(static_cast<size_t>(pool.total()), {});
  slot_held_.assign(static_cast<size_t>(peer_.options().max_num_seqs), false);
  const auto hold_slot = [&](int32_t slot) {
    return !std::exchange(slot_held_.at(static_cast<size_t>(slot)), true);
  };
  for (const int32_t slot : peer_.free_slots()) {
    if (!hold_slot(slot)) return fail("a slot is free twice");
  }
  int32_t promised = 0;
  size_t states_running = 0;
  peer_.each_sequence([&](Sequence& s) {
    promised += s.blocks_promised;
    states_running += s.state == SequenceState::kRunning ? 1 : 0;
    if (s.state == SequenceState::kWaiting && s.in_flight > 0)
      preempted_in_flight_.emplace(s.id.value, s.run);
    if (s.state == SequenceState::kFinished && s.in_flight > 0) ended_in_flight_.insert(s.id.value);
    if (s.state != SequenceState::kRunning && !s.blocks.empty())
      fail("a sequence that does not run holds blocks");
    if (s.slot >= 0 && !hold_slot(s.slot)) fail("a slot is held twice");
    if (s.computed > s.planned || s.planned > s.positions_max())
      fail("positions are computed that were not planned");
    if (s.published * limits::kKvBlockTokens > s.computed) fail("an unfinished block is published");
    if (s.in_flight == 0 && s.state == SequenceState::kRunning && s.computed != s.planned) {
      fail("rows are in flight of a sequence that is not");
    }
    if (static_cast<int32_t>(s.blocks.size()) < KvLedger::blocks_for(s.planned) &&
        s.state == SequenceState::kRunning) {
      fail("positions without a block");
    }
    for (size_t i = 0; i < s.blocks.size(); ++i) {
      Holders& holders = holders_[static_cast<size_t>(s.blocks[i].value)];
      if (static_cast<int32_t>(i) < s.blocks_on_ranks && device_.table(s.slot)[i] != s.blocks[i].value) {
        fail("a rank's block table differs");
      }
      if (++holders.count == 1) {
        holders.first = &s;
        holders.index = i;
        continue;
      }
      const Sequence* other = holders.first;
      if (holders.index != i) fail("a block is shared at two places");
      const auto begin = static_cast<int32_t>(i) * limits::kKvBlockTokens;
      for (int32_t p = begin; p < begin + limits::kKvBlockTokens; ++p) {
        if (p >= s.length() || p >= other->length() || s.token(p) != other->token(p)) {
          return fail("a block is shared by different texts");
        }
      }
    }
  });
  if (std::find(slot_held_.begin(), slot_held_.end(), false) != slot_held_.end()) fail("a slot is lost");
  for (int32_t b = 0; b < pool.total(); ++b) {
    const int32_t count = holders_[static_cast<size_t>(b)].count;
    if (count != pool.references(BlockId{b})) {
      return fail(
          fmt::format("block {} has {} references and {} holders", b, pool.references(BlockId{b}), count));
    }
  }
  if (promised != peer_.promised()) fail("the promised blocks are miscounted");
  if (peer_.promised() > pool.available()) fail("more blocks are promised than there are");
  for (const auto& [ticket, blocks] : touched_) {
    for (const BlockId block : blocks) {
      if (pool.is_free(block)) return fail("a block is free while a ticket in flight touches it");
    }
  }
  const auto& running = peer_.running();
  for (size_t i = 1; i < running.size(); ++i) {
    if (std::find(running.begin(), running.begin() + static_cast<std::ptrdiff_t>(i), running[i]) !=
        running.begin() + static_cast<std::ptrdiff_t>(i)) {
      return fail("a sequence runs twice");
    }
  }
  if (states_running != running.size()) fail("a running sequence is lost");
  const auto& waiting = peer_.waiting();
  for (size_t i = 1; i < waiting.size(); ++i) {
    if (!by_priority_and_share(*waiting[i - 1], *waiting[i])) fail("the queue is out of order");
  }
}

}  // namespace gantry

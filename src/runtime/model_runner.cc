#include "runtime/model_runner.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "base/check.h"
#include "base/limits.h"

namespace gantry {

ModelRunner::ModelRunner(Model& model, const KvStore& kv, ThreadPool& pool, FairMutex* turn,
                         const ModelRunnerOptions& options)
    : model_(model),
      kv_(kv),
      pool_(pool),
      turn_(turn),
      vocab_(model.config().vocab),
      tables_(options.slots, (options.context_max + limits::kKvBlockTokens - 1) / limits::kKvBlockTokens),
      slots_(static_cast<size_t>(options.slots)),
      sampler_(vocab_, pool.size()),
      drafts_(options.drafts),
      samples_(options.samples),
      tensor_(options.tensor) {
  if (drafts_ > 0) {
    drafter_ = std::make_unique<Drafter>(
        model, kv, sampler_, pool,
        DrafterOptions{
            .slots = options.slots, .rows_max = options.rows_max, .drafts = drafts_, .tensor = tensor_});
  }
  const auto logit_rows = static_cast<size_t>(options.logit_rows_max);
  ids_.reserve(static_cast<size_t>(options.rows_max));
  segments_.reserve(slots_.size());
  logit_row_ids_.reserve(logit_rows);
  draws_.reserve(logit_rows);
  if (samples_) logits_.resize(logit_rows * static_cast<size_t>(vocab_));
  drawn_.resize(logit_rows);
  tops_.resize(logit_rows * limits::kTopLogprobsMax);
  outcomes_.reserve(slots_.size());
  proposals_.reserve(slots_.size());
}

void ModelRunner::submit(const StepPlan& plan) {
  std::unique_lock<FairMutex> turn;
  if (turn_ != nullptr) turn = std::unique_lock(*turn_);
  if (status_.ok()) status_ = run(plan);
  if (!status_.ok() || !samples_) return;
  if (spare_.empty()) spare_.emplace_back();
  StepResult& result = done_.emplace_back(std::move(spare_.back()));
  spare_.pop_back();
  fill_result(plan, result);
}

Status ModelRunner::run(const StepPlan& plan) {
  if (samples_) take_starts(plan);
  build_batch(plan);
  GANTRY_RETURN_IF_ERROR(model_.forward({.ids = ids_,
                                         .segments = segments_,
                                         .logit_rows = logit_row_ids_,
                                         .hidden = drafter_ ? drafter_->hidden() : nullptr},
                                        kv_, logits_.data()));
  if (!samples_ && !drafter_) return {};
  if (samples_) sample_rows();
  if (drafter_ && tensor_ != nullptr) GANTRY_RETURN_IF_ERROR(share_outcomes());
  return propose(plan);
}

Status ModelRunner::collect(StepResult& result) {
  if (done_.empty() && !status_.ok()) return status_;
  GANTRY_CHECK(!done_.empty()) << "no ticket was submitted";
  std::swap(result, done_.front());
  spare_.push_back(std::move(done_.front()));
  done_.pop_front();
  return {};
}

void ModelRunner::take_starts(const StepPlan& plan) {
  for (const SequenceStart& start : plan.starts) {
    slots_[static_cast<size_t>(start.slot)] = {
        .sampler = SamplerState(start.request, start.choice, start.generated, vocab_)};
  }
}

void ModelRunner::build_batch(const StepPlan& plan) {
  ids_.assign(plan.ids.begin(), plan.ids.end());
  segments_.clear();
  logit_row_ids_.clear();
  draws_.clear();
  for (const PlanRows& rows : plan.sequences) {
    const std::span<const BlockId> blocks(plan.blocks);
    tables_.set(rows.slot, rows.table_index,
                blocks.subspan(static_cast<size_t>(rows.first_block), static_cast<size_t>(rows.new_blocks)));
    // A table that begins is a new sequence's; only the rank that samples is told of starts.
    if (drafter_ && rows.table_index == 0 && rows.new_blocks > 0) drafter_->start(rows.slot);
    const Slot& slot = slots_[static_cast<size_t>(rows.slot)];
    // Submitted plans have run already, so what this one awaits is known.
    const int32_t first_position = rows.first_position - (rows.awaits.value != 0 ? slot.rejected : 0);
    for (int32_t i = 0; i < rows.rows; ++i) {
      TokenId& id = ids_[static_cast<size_t>(rows.first_row + i)];
      if (id == kTokenOnDevice) id = slot.next[static_cast<size_t>(i)];
    }
    segments_.push_back({rows.first_row, rows.rows, first_position, tables_.row(rows.slot)});
    const auto take = [&](int32_t row, int32_t count, bool scores) {
      draws_.push_back({.slot = rows.slot,
                        .first = static_cast<int32_t>(logit_row_ids_.size()),
                        .rows = count,
                        .position = first_position + row + 1,
                        .drafts = ids_.data() + rows.first_row + row + 1,
                        .scores = scores});
      for (int32_t i = 0; i < count; ++i) logit_row_ids_.push_back(rows.first_row + row + i);
    };
    for (int32_t i = 0; i < rows.scores; ++i) take(rows.score_first + i, 1, true);
    if (rows.sampled > 0) take(rows.rows - rows.sampled, rows.sampled, false);
  }
}

void ModelRunner::sample_rows() {
  pool_.parallel_for(static_cast<int64_t>(draws_.size()), 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; ++i) {
      Draws& draws = draws_[static_cast<size_t>(i)];
      draws.scores ? score(draws, thread) : draw(draws, thread);
    }
  });
}

void ModelRunner::score(const Draws& draws, int thread) {
  const auto at = static_cast<size_t>(draws.first);
  const SamplerState& state = slots_[static_cast<size_t>(draws.slot)].sampler;
  const std::span<const float> logits(logits_.data() + draws.first * vocab_, static_cast<size_t>(vocab_));
  const std::span<TokenLogprob> top(tops_.data() + at * limits::kTopLogprobsMax, limits::kTopLogprobsMax);
  const TokenId token = state.prompt()[static_cast<size_t>(draws.position)];
  drawn_[at] = sampler_.score(logits, token, state.params().prompt_logprobs, top, thread);
}

void ModelRunner::draw(Draws& draws, int thread) {
  SamplerState& state = slots_[static_cast<size_t>(draws.slot)].sampler;
  for (int32_t i = 0; i < draws.rows; ++i) {
    const int32_t row = draws.first + i;
    const auto at = static_cast<size_t>(row);
    const std::span<const float> logits(logits_.data() + row * vocab_, static_cast<size_t>(vocab_));
    const std::span<TokenLogprob> top(tops_.data() + at * limits::kTopLogprobsMax, limits::kTopLogprobsMax);
    drawn_[at] = sampler_.draw(logits, state, draws.position + i, top, thread);
    // A failure after accepted drafts is met again by the next plan, as it would be without drafts.
    if (drawn_[at].error != SampleError::kNone) return;
    state.push(drawn_[at].token);
    draws.last = drawn_[at].token;
    ++draws.accepted;
    if (i + 1 < draws.rows && draws.drafts[i] != drawn_[at].token) return;
  }
}

Status ModelRunner::share_outcomes() {
  outcomes_.clear();
  for (const Draws& draws : draws_) {
    if (!draws.scores) outcomes_.push_back({draws.accepted, draws.last});
  }
  if (outcomes_.empty()) return {};
  GANTRY_RETURN_IF_ERROR(tensor_->broadcast(std::as_writable_bytes(std::span(outcomes_)), 0));
  size_t next = 0;
  for (Draws& draws : draws_) {
    if (draws.scores) continue;
    draws.accepted = outcomes_[next].accepted;
    draws.last = outcomes_[next++].last;
  }
  return {};
}

Status ModelRunner::propose(const StepPlan& plan) {
  proposals_.clear();
  size_t next_draws = 0;
  for (size_t i = 0; i < plan.sequences.size(); ++i) {
    const PlanRows& rows = plan.sequences[i];
    Slot& slot = slots_[static_cast<size_t>(rows.slot)];
    next_draws += static_cast<size_t>(rows.scores);
    Drafter::Rows proposal{.slot = rows.slot,
                           .segment = segments_[i],
                           .ids = {},
                           .reserved = rows.reserved,
                           .sampler = &slot.sampler,
                           .drafts = std::span(slot.next).subspan(1)};
    if (rows.sampled > 0) {
      const Draws& draws = draws_[next_draws++];
      // After a failure nothing that follows is used; rows in flight still need ids that exist.
      slot.next.fill(0);
      if (draws.accepted > 0) slot.next[0] = proposal.next = draws.last;
      slot.rejected = rows.sampled - std::max(draws.accepted, 1);
      proposal.segment.rows -= slot.rejected;
    }
    proposal.ids = std::span<const TokenId>(ids_).subspan(static_cast<size_t>(rows.first_row),
                                                          static_cast<size_t>(proposal.segment.rows));
    proposals_.push_back(proposal);
  }
  return drafter_ ? drafter_->run(proposals_) : Status();
}

void ModelRunner::fill_result(const StepPlan& plan, StepResult& result) const {
  result.clear();
  result.ticket = plan.ticket;
  const auto take = [&](int32_t row, std::vector<SampledToken>& out) {
    const auto at = static_cast<size_t>(row);
    const Sample& sample = drawn_[at];
    const TokenLogprob* top = tops_.data() + at * limits::kTopLogprobsMax;
    out.push_back({sample.token, sample.logprob, static_cast<int32_t>(result.top.size()), sample.tops});
    result.top.insert(result.top.end(), top, top + sample.tops);
  };
  size_t next_draws = 0;
  for (const PlanRows& rows : plan.sequences) {
    if (rows.scores + rows.sampled == 0) continue;
    SequenceResult& out = result.sequences.emplace_back();
    out.sequence = rows.sequence;
    out.first_score = static_cast<int32_t>(result.scores.size());
    out.scores = rows.scores;
    out.score_position = rows.first_position + rows.score_first + 1;
    for (int32_t i = 0; i < rows.scores; ++i) {
      const Draws& draws = draws_[next_draws++];
      take(draws.first, result.scores);
      const SampleError error = drawn_[static_cast<size_t>(draws.first)].error;
      if (error != SampleError::kNone) out.error = error;
    }
    out.first_token = static_cast<int32_t>(result.tokens.size());
    if (rows.sampled == 0) continue;
    const Draws& draws = draws_[next_draws++];
    out.accepted = draws.accepted;
    for (int32_t i = 0; i < draws.accepted; ++i) take(draws.first + i, result.tokens);
    if (draws.accepted == 0) out.error = drawn_[static_cast<size_t>(draws.first)].error;
    out.first_draft = static_cast<int32_t>(result.drafts.size());
    out.drafts = drafts_;
    const auto drafts = slots_[static_cast<size_t>(rows.slot)].next.begin() + 1;
    result.drafts.insert(result.drafts.end(), drafts, drafts + drafts_);
  }
}

}  // namespace gantry

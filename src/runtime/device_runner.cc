#include "runtime/device_runner.h"

#include <mutex>
#include <utility>

#include "base/check.h"
#include "base/limits.h"
#include "sample/draw_row.h"

namespace gantry {

DeviceRunner::DeviceRunner(Model& model, const KvStore& kv, FairMutex* turn,
                           const DeviceRunnerOptions& options)
    : model_(model),
      kv_(kv),
      turn_(turn),
      vocab_(model.config().vocab),
      tables_(options.slots, (options.context_max + limits::kKvBlockTokens - 1) / limits::kKvBlockTokens),
      slots_(static_cast<size_t>(options.slots)) {
  ids_.reserve(static_cast<size_t>(options.rows_max));
  segments_.reserve(slots_.size());
  logit_row_ids_.reserve(static_cast<size_t>(options.logit_rows_max));
  draws_.reserve(static_cast<size_t>(options.logit_rows_max));
  spare_.resize(kStepsAhead);
  for (Submitted& submitted : spare_) submitted.wanted.reserve(slots_.size());
}

void DeviceRunner::submit(const StepPlan& plan) {
  std::unique_lock<FairMutex> turn;
  if (turn_ != nullptr) turn = std::unique_lock(*turn_);
  if (!status_.ok()) return;
  GANTRY_CHECK(!spare_.empty()) << "more than " << kStepsAhead << " plans in flight";
  Submitted submitted = std::move(spare_.back());
  spare_.pop_back();
  take_starts(plan);
  build_batch(plan, submitted);
  status_ =
      model_.launch({.ids = ids_, .segments = segments_, .logit_rows = logit_row_ids_, .draws = draws_}, kv_);
  if (status_.ok()) submitted_.push_back(std::move(submitted));
}

void DeviceRunner::take_starts(const StepPlan& plan) {
  for (const SequenceStart& start : plan.starts) {
    slots_[static_cast<size_t>(start.slot)] = {start.request, start.choice};
    const SlotStartOf slot(*start.request, start.slot, start.generated, vocab_);
    if (slot.needed()) model_.start_slot(slot.start());
  }
}

void DeviceRunner::build_batch(const StepPlan& plan, Submitted& submitted) {
  submitted.ticket = plan.ticket;
  submitted.wanted.clear();
  ids_.assign(plan.ids.begin(), plan.ids.end());
  segments_.clear();
  logit_row_ids_.clear();
  draws_.clear();
  for (const PlanRows& rows : plan.sequences) {
    const std::span<const BlockId> blocks(plan.blocks);
    tables_.set(rows.slot, rows.table_index,
                blocks.subspan(static_cast<size_t>(rows.first_block), static_cast<size_t>(rows.new_blocks)));
    for (int32_t i = 0; i < rows.rows; ++i) {
      TokenId& id = ids_[static_cast<size_t>(rows.first_row + i)];
      if (id == kTokenOnDevice) id = last_drawn(rows.slot);
    }
    segments_.push_back({rows.first_row, rows.rows, rows.first_position, tables_.row(rows.slot)});
    GANTRY_CHECK(rows.sampled <= 1) << "drafts are not for a backend that draws";
    if (rows.scores + rows.sampled == 0) continue;
    const Slot& slot = slots_[static_cast<size_t>(rows.slot)];
    const int32_t first_scored = rows.first_position + rows.score_first + 1;
    for (int32_t i = 0; i < rows.scores; ++i) {
      logit_row_ids_.push_back(rows.first_row + rows.score_first + i);
      draws_.push_back(score_row(*slot.request, first_scored + i));
    }
    if (rows.sampled > 0) {
      logit_row_ids_.push_back(rows.first_row + rows.rows - 1);
      draws_.push_back(draw_row(*slot.request, slot.choice, rows.slot, rows.first_position + rows.rows));
    }
    submitted.wanted.push_back({rows.sequence, rows.scores, first_scored, rows.sampled > 0});
  }
}

Status DeviceRunner::collect(StepResult& result) {
  if (submitted_.empty() && !status_.ok()) return status_;
  GANTRY_CHECK(!submitted_.empty()) << "no ticket was submitted";
  const std::span<const Drawn> drawn = model_.collect();
  Submitted submitted = std::move(submitted_.front());
  submitted_.pop_front();
  result.clear();
  result.ticket = submitted.ticket;
  size_t next = 0;
  const auto take = [&](SequenceResult& sequence, std::vector<SampledToken>& out) {
    const Drawn& row = drawn[next++];
    sequence.error = row.error != 0 ? static_cast<SampleError>(row.error) : sequence.error;
    const auto first = static_cast<int32_t>(result.top.size());
    for (int32_t i = 0; i < row.tops; ++i) result.top.push_back({row.top[i].id, row.top[i].logprob});
    out.push_back({row.token, row.logprob, first, row.tops});
    return row.error == 0;
  };
  for (const Wanted& wanted : submitted.wanted) {
    SequenceResult& sequence = result.sequences.emplace_back();
    sequence.sequence = wanted.sequence;
    sequence.first_score = static_cast<int32_t>(result.scores.size());
    sequence.scores = wanted.scores;
    sequence.score_position = wanted.score_position;
    for (int32_t i = 0; i < wanted.scores; ++i) take(sequence, result.scores);
    sequence.first_token = static_cast<int32_t>(result.tokens.size());
    if (!wanted.sampled) continue;
    if (take(sequence, result.tokens)) {
      sequence.accepted = 1;
    } else {
      result.tokens.pop_back();
    }
  }
  spare_.push_back(std::move(submitted));
  return {};
}

}  // namespace gantry

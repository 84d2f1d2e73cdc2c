#include "runtime/model_runner.h"

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
      states_(static_cast<size_t>(options.slots)),
      sampler_(vocab_, pool.size()) {
  const auto rows = static_cast<size_t>(options.rows_max);
  const auto logit_rows = static_cast<size_t>(options.logit_rows_max);
  ids_.reserve(rows);
  segments_.reserve(states_.size());
  logit_row_ids_.reserve(logit_rows);
  logit_rows_.reserve(logit_rows);
  logits_.resize(logit_rows * static_cast<size_t>(vocab_));
  samples_.resize(logit_rows);
  tops_.resize(logit_rows * limits::kTopLogprobsMax);
}

void ModelRunner::submit(const StepPlan& plan) {
  std::unique_lock<FairMutex> turn;
  if (turn_ != nullptr) turn = std::unique_lock(*turn_);
  take_starts(plan);
  build_batch(plan);
  const ForwardBatch batch{ids_, segments_, logit_row_ids_};
  model_.forward(batch, kv_, logits_.data());
  sample_rows();
  if (spare_.empty()) spare_.emplace_back();
  StepResult& result = done_.emplace_back(std::move(spare_.back()));
  spare_.pop_back();
  fill_result(plan, result);
}

void ModelRunner::collect(StepResult& result) {
  GANTRY_CHECK(!done_.empty()) << "no ticket was submitted";
  std::swap(result, done_.front());
  spare_.push_back(std::move(done_.front()));
  done_.pop_front();
}

void ModelRunner::take_starts(const StepPlan& plan) {
  for (const SequenceStart& start : plan.starts) {
    states_[static_cast<size_t>(start.slot)] =
        SamplerState(start.request, start.choice, start.generated, vocab_);
  }
}

void ModelRunner::build_batch(const StepPlan& plan) {
  ids_.assign(plan.ids.begin(), plan.ids.end());
  segments_.clear();
  logit_row_ids_.clear();
  logit_rows_.clear();
  for (const PlanRows& rows : plan.sequences) {
    const std::span<const BlockId> blocks(plan.blocks);
    tables_.set(rows.slot, rows.table_index,
                blocks.subspan(static_cast<size_t>(rows.first_block), static_cast<size_t>(rows.new_blocks)));
    const SamplerState& state = states_[static_cast<size_t>(rows.slot)];
    GANTRY_CHECK(rows.sampled <= 1) << "this model proposes no drafts";
    // Submitted plans have run already, so what this one awaits is known: the slot's last token.
    int32_t& last_id = ids_[static_cast<size_t>(rows.first_row + rows.rows - 1)];
    if (last_id == kTokenOnDevice) last_id = state.last_token();
    segments_.push_back({rows.first_row, rows.rows, rows.first_position, tables_.row(rows.slot)});
    for (int32_t i = 0; i < rows.scores; ++i) {
      logit_row_ids_.push_back(rows.first_row + rows.score_first + i);
      logit_rows_.push_back({rows.slot, rows.first_position + rows.score_first + i + 1, true});
    }
    for (int32_t i = rows.rows - rows.sampled; i < rows.rows; ++i) {
      logit_row_ids_.push_back(rows.first_row + i);
      logit_rows_.push_back({rows.slot, rows.first_position + i + 1, false});
    }
  }
}

void ModelRunner::sample_rows() {
  pool_.parallel_for(
      static_cast<int64_t>(logit_rows_.size()), 1, [&](int64_t begin, int64_t end, int thread) {
        for (int64_t i = begin; i < end; ++i) {
          const auto at = static_cast<size_t>(i);
          const LogitRow& row = logit_rows_[at];
          const SamplerState& state = states_[static_cast<size_t>(row.slot)];
          const std::span<const float> logits(logits_.data() + i * vocab_, static_cast<size_t>(vocab_));
          const std::span<TokenLogprob> top(tops_.data() + at * limits::kTopLogprobsMax,
                                            limits::kTopLogprobsMax);
          if (row.scores) {
            const TokenId token = state.prompt()[static_cast<size_t>(row.position)];
            samples_[at] = sampler_.score(logits, token, state.params().prompt_logprobs, top, thread);
          } else {
            samples_[at] = sampler_.draw(logits, state, row.position, top, thread);
          }
        }
      });
}

void ModelRunner::fill_result(const StepPlan& plan, StepResult& result) {
  result.clear();
  result.ticket = plan.ticket;
  size_t at = 0;
  const auto take = [&](std::vector<SampledToken>& out) {
    const Sample& sample = samples_[at];
    const TokenLogprob* top = tops_.data() + at * limits::kTopLogprobsMax;
    out.push_back({sample.token, sample.logprob, static_cast<int32_t>(result.top.size()), sample.tops});
    result.top.insert(result.top.end(), top, top + sample.tops);
    ++at;
    return sample.error;
  };
  for (const PlanRows& rows : plan.sequences) {
    if (rows.scores + rows.sampled == 0) continue;
    SequenceResult& out = result.sequences.emplace_back();
    out.sequence = rows.sequence;
    out.first_score = static_cast<int32_t>(result.scores.size());
    out.scores = rows.scores;
    out.score_position = rows.first_position + rows.score_first + 1;
    for (int32_t i = 0; i < rows.scores; ++i) {
      const SampleError error = take(result.scores);
      if (error != SampleError::kNone) out.error = error;
    }
    out.first_token = static_cast<int32_t>(result.tokens.size());
    if (rows.sampled == 0) continue;
    const SampleError error = take(result.tokens);
    if (error != SampleError::kNone) out.error = error;
    if (out.error != SampleError::kNone) continue;
    out.accepted = 1;
    states_[static_cast<size_t>(rows.slot)].push(result.tokens.back().id);
  }
}

}  // namespace gantry

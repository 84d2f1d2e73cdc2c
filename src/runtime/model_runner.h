// Runs plans on a model of this process: rows to logits to tokens. It knows sequences by slot, from the plans
// alone.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "base/fair_mutex.h"
#include "base/thread_pool.h"
#include "cache/block_table.h"
#include "model/model.h"
#include "runtime/step_executor.h"
#include "sample/sampler.h"

namespace gantry {

struct ModelRunnerOptions {
  int32_t slots = 0;     // max_num_seqs
  int32_t rows_max = 0;  // max_num_batched_tokens
  int32_t logit_rows_max = 0;
  int32_t context_max = 0;  // max_model_len
};

class ModelRunner : public StepExecutor {
 public:
  // All outlive the runner. `turn` (or null) is held while a plan runs: the pool's other users wait.
  ModelRunner(Model& model, const KvStore& kv, ThreadPool& pool, FairMutex* turn,
              const ModelRunnerOptions& options);

  void submit(const StepPlan& plan) override;
  void collect(StepResult& result) override;

 private:
  // One row of logits and what is done with it.
  struct LogitRow {
    int32_t slot;
    int32_t position;  // of the token that it gives or scores
    bool scores;       // the prompt's token there; else it draws one
  };

  void take_starts(const StepPlan& plan);
  void build_batch(const StepPlan& plan);
  void sample_rows();
  void fill_result(const StepPlan& plan, StepResult& result);

  Model& model_;
  const KvStore& kv_;
  ThreadPool& pool_;
  FairMutex* turn_;
  int64_t vocab_;
  BlockTables tables_;
  std::vector<SamplerState> states_;  // by slot
  Sampler sampler_;

  // Buffers of one step, sized once.
  std::vector<int32_t> ids_;
  std::vector<Segment> segments_;
  std::vector<int32_t> logit_row_ids_;  // rows of the batch
  std::vector<LogitRow> logit_rows_;
  std::vector<float> logits_;       // [logit_rows_max, vocab]
  std::vector<Sample> samples_;     // by logit row
  std::vector<TokenLogprob> tops_;  // [logit_rows_max, kTopLogprobsMax]

  std::deque<StepResult> done_;
  std::vector<StepResult> spare_;
};

}  // namespace gantry

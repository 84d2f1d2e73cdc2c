// Runs plans on a model of this process: rows to logits to tokens, and with drafts a pass of the draft module. It
// knows sequences by slot, from the plans alone.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "base/fair_mutex.h"
#include "base/thread_pool.h"
#include "cache/block_table.h"
#include "comm/communicator.h"
#include "model/model.h"
#include "runtime/drafter.h"
#include "runtime/step_executor.h"
#include "sample/sampler.h"

namespace gantry {

struct ModelRunnerOptions {
  int32_t slots = 0;     // max_num_seqs
  int32_t rows_max = 0;  // max_num_batched_tokens
  int32_t logit_rows_max = 0;
  int32_t context_max = 0;  // max_model_len
  int32_t drafts = 0;       // after each new token, at most kDraftsMax; the model can draft
  // Of several ranks one samples; the others run the rows, and have no results to collect. Those that have a share of
  // the draft module draft with it, where `tensor` (null: no others) tells them what its rank 0 has drawn.
  bool samples = true;
  Communicator* tensor = nullptr;
};

class ModelRunner : public StepExecutor {
 public:
  // All outlive the runner. `turn` (or null) is held while a plan runs: the pool's other users wait.
  ModelRunner(Model& model, const KvStore& kv, ThreadPool& pool, FairMutex* turn,
              const ModelRunnerOptions& options);

  void submit(const StepPlan& plan) override;
  Status collect(StepResult& result) override;
  // What the first pass that failed ended with.
  const Status& status() const { return status_; }

 private:
  Status run(const StepPlan& plan);
  struct Slot {
    SamplerState sampler;
    std::array<TokenId, 1 + kDraftsMax> next{};  // the token sampled last and the drafts after it
    int32_t rejected = 0;                        // rows of the ticket that sampled last
  };
  // Rows of logits that are taken one after the other: a prompt's token to score, or a sequence's draws.
  struct Draws {
    int32_t slot;
    int32_t first;     // row of logits
    int32_t rows;      // 1 + drafts
    int32_t position;  // of the first row's token
    const TokenId* drafts;
    bool scores;
    int32_t accepted = 0;
    TokenId last = -1;  // the token drawn last
  };
  // What the ranks that draft together have to know of a sequence's draws.
  struct Outcome {
    int32_t accepted;
    TokenId last;
  };

  void take_starts(const StepPlan& plan);
  void build_batch(const StepPlan& plan);
  void sample_rows();
  void score(const Draws& draws, int thread);
  // Draws until a token is not the draft that the next row took for it.
  void draw(Draws& draws, int thread);
  // Makes the outcomes of all draws known on every rank that drafts.
  Status share_outcomes();
  // Marks what the tickets after this one find on the slots, and drafts.
  Status propose(const StepPlan& plan);
  void fill_result(const StepPlan& plan, StepResult& result) const;

  Model& model_;
  const KvStore& kv_;
  ThreadPool& pool_;
  FairMutex* turn_;
  int64_t vocab_;
  BlockTables tables_;
  std::vector<Slot> slots_;
  Sampler sampler_;
  std::unique_ptr<Drafter> drafter_;  // null without drafts
  const int32_t drafts_;
  const bool samples_;
  Communicator* const tensor_;

  // Buffers of one step, sized once.
  std::vector<TokenId> ids_;
  std::vector<Segment> segments_;       // by sequence of the plan
  std::vector<int32_t> logit_row_ids_;  // rows of the batch
  std::vector<Draws> draws_;            // in the order of rows of logits
  std::vector<float> logits_;           // [logit_rows_max, vocab]
  std::vector<Sample> drawn_;           // by row of logits
  std::vector<TokenLogprob> tops_;      // [logit_rows_max, kTopLogprobsMax]
  std::vector<Outcome> outcomes_;
  std::vector<Drafter::Rows> proposals_;  // by sequence of the plan

  Status status_;  // of the first forward pass that failed
  std::deque<StepResult> done_;
  std::vector<StepResult> spare_;
};

}  // namespace gantry

// Runs plans on a model whose backend draws the tokens itself: a plan is handed over while the one before runs, and only
// tokens come back. ModelRunner's counterpart for a GPU.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "base/fair_mutex.h"
#include "cache/block_table.h"
#include "model/model.h"
#include "runtime/step_executor.h"

namespace gantry {

struct DeviceRunnerOptions {
  int32_t slots = 0;  // LoadOptions::slots
  int32_t rows_max = 0;
  int32_t logit_rows_max = 0;
  int32_t context_max = 0;
};

class DeviceRunner : public StepExecutor {
 public:
  // All outlive the runner. `turn` (or null) is held while a plan is handed over.
  DeviceRunner(Model& model, const KvStore& kv, FairMutex* turn, const DeviceRunnerOptions& options);

  // At most kStepsAhead plans are submitted and not collected.
  void submit(const StepPlan& plan) override;
  Status collect(StepResult& result) override;

 private:
  // What a sequence of a submitted plan is to get.
  struct Wanted {
    SeqId sequence;
    int32_t scores;
    int32_t score_position;
    bool sampled;
  };
  struct Submitted {
    Ticket ticket;
    std::vector<Wanted> wanted;
  };

  void take_starts(const StepPlan& plan);
  void build_batch(const StepPlan& plan, Submitted& submitted);

  Model& model_;
  const KvStore& kv_;
  FairMutex* turn_;
  int64_t vocab_;
  BlockTables tables_;
  struct Slot {
    std::shared_ptr<const GenerateRequest> request;
    int32_t choice = 0;
  };
  std::vector<Slot> slots_;

  // Buffers of one plan, sized once.
  std::vector<TokenId> ids_;
  std::vector<Segment> segments_;
  std::vector<int32_t> logit_row_ids_;
  std::vector<DrawRow> draws_;

  Status status_;  // of the first batch that failed
  std::deque<Submitted> submitted_;
  std::vector<Submitted> spare_;
};

}  // namespace gantry

// What the CUDA backend keeps between ops: a stream, the steps' inputs, logits, what slots have drawn, recorded steps.
//
// A step's inputs lie in page-locked memory, one of kStepsAhead buffers in turn, and its first kernel fetches them: so
// they are written while the step before runs, and nothing of the host's comes between two steps. Results go the same
// way: the last kernel writes them to the host's memory.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <vector>

#include "kernels/cuda/draw.h"
#include "kernels/ops/backend.h"

namespace gantry::cuda {

// The step's inputs on the device. A table holds the blocks of one segment's sequence.
struct DeviceStep {
  const int32_t* ids = nullptr;         // [R]
  const int32_t* positions = nullptr;   // [R]
  const int32_t* lengths = nullptr;     // [R] positions + 1: the tokens that a row sees
  const int32_t* segments = nullptr;    // [R] index of the row's table
  const int32_t* logit_rows = nullptr;  // [M]
  const int32_t* tables = nullptr;      // [segments, table_stride]
  int32_t table_stride = 0;
  const DrawRow* draws = nullptr;  // [M]
  const int32_t* turn = nullptr;   // which of the buffers the step has
  const float* cos = nullptr;      // [R, pairs]
  const float* sin = nullptr;
  int64_t rows = 0;
  int64_t segment_count = 0;
  int64_t context = 0;  // of the longest row; rounded up to a bucket where steps are recorded
};

// Device times of one launched step, from events around it, and of the gap before it.
struct StepTime {
  float step_us = 0;
  float gap_us = 0;
};

class State final : public BackendState {
 public:
  static Result<std::unique_ptr<BackendState>> create(const ScratchSpec& spec);
  ~State() override;

  bool begin(const StepInputs& inputs);
  Status finish();
  Status launch();
  Result<std::span<const Drawn>> collect();
  void start_slot(const SlotStart& start);
  void draw(const DrawArgs& args);

  // For benchmarks: states that are created while this is set add every launched step but their first.
  static inline std::vector<StepTime>* watched = nullptr;

  cudaStream_t stream() const { return stream_; }
  int sm_count() const { return sm_count_; }
  const DeviceStep& step() const { return step_; }
  // Where a head writes `rows` x `width` logits, at most [logit_rows_max, vocab]; finish() hands them on.
  float* take_logits(int64_t rows, int64_t width);
  // Notes what an op's launch returned; finish() reports the first failure.
  void note(const Status& status) {
    if (!status.ok() && failure_.ok()) failure_ = status;
  }

 private:
  struct Recording {
    int64_t rows;
    int64_t context;
    uint64_t cache;
    bool draws;
    cudaGraphExec_t graph;  // null: it ran once, and is recorded next
  };
  // What one step in flight has.
  struct Turn {
    std::byte* inputs = nullptr;  // page-locked, as laid out by stage()
    cudaEvent_t done = nullptr;
    size_t drawn = 0;  // rows
  };
  // The events of watched steps: of one that is collected, the one before it and those in flight.
  struct Watch {
    cudaEvent_t start = nullptr, end = nullptr;
  };
  explicit State(const ScratchSpec& spec) : spec_(spec) {}
  Watch& watch(int64_t step) {
    return watches_[static_cast<size_t>(step % static_cast<int64_t>(watches_.size()))];
  }
  Status allocate();
  Status allocate_slots();
  // Writes the inputs where the step's first kernel fetches them.
  void stage(const StepInputs& inputs);
  void fetch();
  Recording* find(const StepInputs& inputs);
  void end_recording();

  ScratchSpec spec_;
  cudaStream_t stream_ = nullptr;
  int sm_count_ = 0;
  std::byte* device_ = nullptr;  // the inputs of the step that runs
  std::array<Turn, kStepsAhead> turns_;
  int turn_ = 0;                // of the next step
  int in_flight_ = 0;           // launched and not collected
  int32_t* fetched_ = nullptr;  // [2] the device's count of turns, and of the blocks that have fetched
  size_t inputs_bytes_ = 0;
  size_t staged_bytes_ = 0;
  float* logits_ = nullptr;
  float* logits_to_ = nullptr;  // of the step: the caller's
  size_t logits_bytes_ = 0;
  DeviceStep step_;
  DrawSlots slots_;
  int32_t* slot_ids_ = nullptr;  // [context_max] of a slot that starts
  Drawn* results_ = nullptr;     // [kStepsAhead, logit_rows_max] page-locked
  std::vector<Recording> recordings_;
  Recording* recording_ = nullptr;  // being captured
  Status failure_;
  std::vector<StepTime>* times_ = nullptr;
  std::array<Watch, kStepsAhead + 2> watches_;
  int64_t launched_ = 0, collected_ = 0;
};

// The context's state.
inline State& state_of(const OpContext& context) { return static_cast<State&>(*context.state); }

}  // namespace gantry::cuda

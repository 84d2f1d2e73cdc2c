// What the CUDA backend keeps between ops: a stream, the step's inputs on the device, logits, recorded steps.
#pragma once

#include <cuda_runtime.h>

#include <vector>

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
  const float* cos = nullptr;  // [R, pairs]
  const float* sin = nullptr;
  int64_t rows = 0;
  int64_t segment_count = 0;
  int64_t context = 0;  // of the longest row; rounded up to a bucket where steps are recorded
};

class State final : public BackendState {
 public:
  static Result<std::unique_ptr<BackendState>> create(const ScratchSpec& spec);
  ~State() override;

  bool begin(const StepInputs& inputs);
  Status finish();

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
    cudaGraphExec_t graph;  // null: it ran once, and is recorded next
  };
  explicit State(const ScratchSpec& spec) : spec_(spec) {}
  Status allocate();
  void upload(const StepInputs& inputs);
  Recording* find(const StepInputs& inputs);

  ScratchSpec spec_;
  cudaStream_t stream_ = nullptr;
  int sm_count_ = 0;
  std::byte* device_ = nullptr;   // the inputs of a step, as laid out by upload()
  std::byte* staging_ = nullptr;  // the same in page-locked memory
  size_t inputs_bytes_ = 0;
  float* logits_ = nullptr;
  float* logits_to_ = nullptr;  // of the step: the caller's
  size_t logits_bytes_ = 0;
  DeviceStep step_;
  std::vector<Recording> recordings_;
  Recording* recording_ = nullptr;  // being captured
  Status failure_;
};

// The context's state.
inline State& state_of(const OpContext& context) { return static_cast<State&>(*context.state); }

}  // namespace gantry::cuda

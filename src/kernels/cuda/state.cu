#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "base/limits.h"
#include "kernels/cuda/attention_config.h"
#include "kernels/cuda/sm90/launch.h"
#include "kernels/cuda/state.h"

namespace gantry::cuda {
namespace {

using sm90::cuda_status;

constexpr size_t kAlign = 256;
constexpr int64_t kContextBucketMin = 256;
// A recorded step is some hundred kilobytes of the driver's memory; rows and contexts beyond are launched op by op.
constexpr size_t kRecordingsMax = 256;
constexpr int64_t kRecordedRowsMax = 128;

int64_t blocks_of(int64_t context) { return (context + limits::kKvBlockTokens - 1) / limits::kKvBlockTokens; }

// Hands out pieces of the staging buffer and of its copy on the device.
class Pieces {
 public:
  Pieces(std::byte* staging, std::byte* device, size_t size)
      : staging_(staging), device_(device), size_(size) {}
  // Returns where to write `count` values; `device` is where they arrive.
  template <typename T>
  T* take(int64_t count, const T*& device) {
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    GANTRY_CHECK(bytes <= size_ - used_) << "inputs of a step exceed " << size_ << " bytes";
    T* host = reinterpret_cast<T*>(staging_ + used_);
    device = reinterpret_cast<const T*>(device_ + used_);
    used_ = std::min(size_, (used_ + bytes + kAlign - 1) / kAlign * kAlign);
    return host;
  }
  size_t used() const { return used_; }

 private:
  std::byte* staging_;
  std::byte* device_;
  size_t size_;
  size_t used_ = 0;
};

}  // namespace

Result<std::unique_ptr<BackendState>> State::create(const ScratchSpec& spec) {
  if (spec.head_dim_max > kAttentionDimMax) {
    return unimplemented("heads of " + std::to_string(spec.head_dim_max) +
                         " values: the CUDA backend supports up to " + std::to_string(kAttentionDimMax));
  }
  std::unique_ptr<State> state(new State(spec));
  GANTRY_RETURN_IF_ERROR(state->allocate());
  return std::unique_ptr<BackendState>(std::move(state));
}

Status State::allocate() {
  GANTRY_RETURN_IF_ERROR(cuda_status(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream"));
  GANTRY_RETURN_IF_ERROR(
      cuda_status(cudaDeviceGetAttribute(&sm_count_, cudaDevAttrMultiProcessorCount, 0), "device"));
  const int64_t rows = spec_.rows_max;
  const int64_t context = std::max(std::bit_ceil(static_cast<uint64_t>(spec_.context_max)),
                                   static_cast<uint64_t>(kContextBucketMin));
  const int64_t words =
      4 * rows + spec_.logit_rows_max + rows * blocks_of(context) + 2 * rows * spec_.rope_pairs_max;
  inputs_bytes_ = static_cast<size_t>(words) * 4 + 9 * kAlign;
  const auto logits_bytes = static_cast<size_t>(spec_.logit_rows_max * spec_.vocab) * sizeof(float);
  const auto need = [](cudaError_t error, const char* what) {
    return error == cudaErrorMemoryAllocation
               ? resource_exhausted(std::string(what) + " do not fit the GPU's memory")
               : cuda_status(error, what);
  };
  GANTRY_RETURN_IF_ERROR(need(cudaMalloc(&device_, inputs_bytes_), "the inputs of a step"));
  GANTRY_RETURN_IF_ERROR(need(cudaMalloc(&logits_, std::max(logits_bytes, kAlign)), "the logits of a step"));
  GANTRY_RETURN_IF_ERROR(need(cudaMallocHost(&staging_, inputs_bytes_), "the staging buffers of a step"));
  recordings_.reserve(kRecordingsMax);
  return {};
}

State::~State() {
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  for (const Recording& recording : recordings_) {
    if (recording.graph != nullptr) cudaGraphExecDestroy(recording.graph);
  }
  cudaFree(device_);
  cudaFree(logits_);
  cudaFreeHost(staging_);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

void State::upload(const StepInputs& inputs) {
  int64_t rows = 0, context = 1;
  for (const Segment& segment : inputs.segments) {
    rows = std::max<int64_t>(rows, int64_t{segment.first_row} + segment.rows);
    context = std::max<int64_t>(context, int64_t{segment.first_position} + segment.rows);
  }
  // Few sizes of grids and tables, so that a recorded step serves for many.
  if (inputs.recordable) {
    context = std::max<int64_t>(static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(context))),
                                kContextBucketMin);
  }
  step_ = {};
  step_.rows = rows;
  step_.segment_count = static_cast<int64_t>(inputs.segments.size());
  step_.context = context;
  step_.table_stride = static_cast<int32_t>(blocks_of(context));
  Pieces pieces(staging_, device_, inputs_bytes_);
  std::copy(inputs.ids.begin(), inputs.ids.end(),
            pieces.take(static_cast<int64_t>(inputs.ids.size()), step_.ids));
  std::copy(inputs.logit_rows.begin(), inputs.logit_rows.end(),
            pieces.take(static_cast<int64_t>(inputs.logit_rows.size()), step_.logit_rows));
  int32_t* positions = pieces.take(rows, step_.positions);
  int32_t* lengths = pieces.take(rows, step_.lengths);
  int32_t* segments = pieces.take(rows, step_.segments);
  int32_t* tables = pieces.take(step_.segment_count * step_.table_stride, step_.tables);
  for (size_t i = 0; i < inputs.segments.size(); ++i) {
    const Segment& segment = inputs.segments[i];
    for (int32_t r = 0; r < segment.rows; ++r) {
      positions[segment.first_row + r] = segment.first_position + r;
      lengths[segment.first_row + r] = segment.first_position + r + 1;
      segments[segment.first_row + r] = static_cast<int32_t>(i);
    }
    const int64_t blocks = blocks_of(int64_t{segment.first_position} + segment.rows);
    int32_t* table = tables + static_cast<int64_t>(i) * step_.table_stride;
    std::copy(segment.block_table, segment.block_table + blocks, table);
    std::fill(table + blocks, table + step_.table_stride, 0);
  }
  if (inputs.rope.cos != nullptr) {
    const int64_t angles = rows * inputs.rope.pairs;
    std::copy(inputs.rope.cos, inputs.rope.cos + angles, pieces.take(angles, step_.cos));
    std::copy(inputs.rope.sin, inputs.rope.sin + angles, pieces.take(angles, step_.sin));
  }
  note(cuda_status(cudaMemcpyAsync(device_, staging_, pieces.used(), cudaMemcpyHostToDevice, stream_),
                   "inputs"));
}

float* State::take_logits(int64_t rows, int64_t width) {
  GANTRY_CHECK(rows <= spec_.logit_rows_max && width <= spec_.vocab) << rows << " x " << width << " logits";
  logits_bytes_ = static_cast<size_t>(rows * width) * sizeof(float);
  return logits_;
}

State::Recording* State::find(const StepInputs& inputs) {
  for (Recording& recording : recordings_) {
    if (recording.rows == step_.rows && recording.context == step_.context &&
        recording.cache == inputs.cache) {
      return &recording;
    }
  }
  return nullptr;
}

bool State::begin(const StepInputs& inputs) {
  upload(inputs);
  logits_to_ = inputs.logits;
  logits_bytes_ = inputs.logit_rows.size() * static_cast<size_t>(spec_.vocab) * sizeof(float);
  if (!inputs.recordable || step_.rows > kRecordedRowsMax) return false;
  Recording* recording = find(inputs);
  if (recording == nullptr) {
    // The first time loads what the driver loads lazily; the second is recorded.
    if (recordings_.size() < kRecordingsMax) {
      recordings_.push_back({step_.rows, step_.context, inputs.cache, nullptr});
    }
    return false;
  }
  if (recording->graph != nullptr) {
    note(cuda_status(cudaGraphLaunch(recording->graph, stream_), "a recorded step"));
    return true;
  }
  const Status status =
      cuda_status(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "recording");
  note(status);
  if (status.ok()) recording_ = recording;
  return false;
}

Status State::finish() {
  if (recording_ != nullptr) {
    cudaGraph_t graph = nullptr;
    note(cuda_status(cudaStreamEndCapture(stream_, &graph), "recording a step"));
    if (graph != nullptr) {
      note(cuda_status(cudaGraphInstantiate(&recording_->graph, graph, 0), "recording a step"));
      cudaGraphDestroy(graph);
    }
    if (recording_->graph != nullptr) {
      note(cuda_status(cudaGraphLaunch(recording_->graph, stream_), "a recorded step"));
    }
    recording_ = nullptr;
  }
  if (logits_to_ != nullptr && logits_bytes_ > 0) {
    note(cuda_status(cudaMemcpyAsync(logits_to_, logits_, logits_bytes_, cudaMemcpyDeviceToHost, stream_),
                     "logits"));
  }
  logits_to_ = nullptr;
  note(cuda_status(cudaStreamSynchronize(stream_), "the GPU"));
  return failure_;
}

}  // namespace gantry::cuda

#include <algorithm>
#include <bit>
#include <cstring>
#include <tuple>

#include "base/check.h"
#include "base/limits.h"
#include "kernels/cuda/attention_config.h"
#include "kernels/cuda/fetch.h"
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

Status need(cudaError_t error, const char* what) {
  return error == cudaErrorMemoryAllocation
             ? resource_exhausted(std::string(what) + " do not fit the GPU's memory")
             : cuda_status(error, what);
}

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
  inputs_bytes_ = static_cast<size_t>(words) * 4 +
                  static_cast<size_t>(spec_.logit_rows_max) * sizeof(DrawRow) + 11 * kAlign;
  const auto logits_bytes = static_cast<size_t>(spec_.logit_rows_max * spec_.vocab) * sizeof(float);
  GANTRY_RETURN_IF_ERROR(need(cudaMalloc(&device_, inputs_bytes_), "the inputs of a step"));
  GANTRY_RETURN_IF_ERROR(need(cudaMalloc(&fetched_, 2 * sizeof(int32_t)), "the inputs of a step"));
  GANTRY_RETURN_IF_ERROR(cuda_status(cudaMemset(fetched_, 0, 2 * sizeof(int32_t)), "memory"));
  GANTRY_RETURN_IF_ERROR(need(cudaMalloc(&logits_, std::max(logits_bytes, kAlign)), "the logits of a step"));
  for (Turn& turn : turns_) {
    GANTRY_RETURN_IF_ERROR(
        need(cudaMallocHost(&turn.inputs, inputs_bytes_), "the staging buffers of a step"));
    GANTRY_RETURN_IF_ERROR(
        cuda_status(cudaEventCreateWithFlags(&turn.done, cudaEventDisableTiming), "event"));
  }
  times_ = watched;
  for (Watch& each : watches_) {
    if (times_ == nullptr) break;
    GANTRY_RETURN_IF_ERROR(cuda_status(cudaEventCreate(&each.start), "event"));
    GANTRY_RETURN_IF_ERROR(cuda_status(cudaEventCreate(&each.end), "event"));
  }
  recordings_.reserve(kRecordingsMax);
  return spec_.slots > 0 ? allocate_slots() : Status();
}

Status State::allocate_slots() {
  GANTRY_RETURN_IF_ERROR(check_draw(spec_.vocab));
  const auto slots = static_cast<size_t>(spec_.slots);
  const auto take = [&](auto*& pointer, size_t each) {
    const size_t bytes = slots * each * sizeof(*pointer);
    GANTRY_RETURN_IF_ERROR(need(cudaMalloc(&pointer, bytes), "what is known of sequences"));
    return cuda_status(cudaMemset(pointer, 0, bytes), "memory");
  };
  GANTRY_RETURN_IF_ERROR(take(slots_.last, 1));
  GANTRY_RETURN_IF_ERROR(take(slots_.counts, static_cast<size_t>(spec_.vocab)));
  GANTRY_RETURN_IF_ERROR(take(slots_.bias_ids, limits::kLogitBiasMax));
  GANTRY_RETURN_IF_ERROR(take(slots_.biases, limits::kLogitBiasMax));
  GANTRY_RETURN_IF_ERROR(take(slots_.end_tokens, kSlotEndTokensMax));
  GANTRY_RETURN_IF_ERROR(take(slots_.lengths, 2));
  GANTRY_RETURN_IF_ERROR(
      need(cudaMalloc(&slot_ids_, static_cast<size_t>(spec_.context_max) * sizeof(int32_t)),
           "what is known of sequences"));
  const size_t results = kStepsAhead * static_cast<size_t>(spec_.logit_rows_max) * sizeof(Drawn);
  GANTRY_RETURN_IF_ERROR(need(cudaMallocHost(&results_, results), "the results of a step"));
  return cuda_status(cudaDeviceSynchronize(), "memory");
}

State::~State() {
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  for (const Recording& recording : recordings_) {
    if (recording.graph != nullptr) cudaGraphExecDestroy(recording.graph);
  }
  for (const Turn& turn : turns_) {
    cudaFreeHost(turn.inputs);
    if (turn.done != nullptr) cudaEventDestroy(turn.done);
  }
  for (const Watch& each : watches_) {
    if (each.start != nullptr) cudaEventDestroy(each.start);
    if (each.end != nullptr) cudaEventDestroy(each.end);
  }
  for (void* memory : {static_cast<void*>(device_), static_cast<void*>(fetched_), static_cast<void*>(logits_),
                       static_cast<void*>(slots_.last), static_cast<void*>(slots_.counts),
                       static_cast<void*>(slots_.bias_ids), static_cast<void*>(slots_.biases),
                       static_cast<void*>(slots_.end_tokens), static_cast<void*>(slots_.lengths),
                       static_cast<void*>(slot_ids_)}) {
    cudaFree(memory);
  }
  cudaFreeHost(results_);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

void State::stage(const StepInputs& inputs) {
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
  Pieces pieces(turns_[static_cast<size_t>(turn_)].inputs, device_, inputs_bytes_);
  *pieces.take(1, step_.turn) = turn_;
  std::copy(inputs.ids.begin(), inputs.ids.end(),
            pieces.take(static_cast<int64_t>(inputs.ids.size()), step_.ids));
  std::copy(inputs.logit_rows.begin(), inputs.logit_rows.end(),
            pieces.take(static_cast<int64_t>(inputs.logit_rows.size()), step_.logit_rows));
  std::copy(inputs.draws.begin(), inputs.draws.end(),
            pieces.take(static_cast<int64_t>(inputs.draws.size()), step_.draws));
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
  staged_bytes_ = pieces.used();
  turns_[static_cast<size_t>(turn_)].drawn = inputs.draws.size();
}

void State::fetch() {
  note(launch_fetch({.from = {turns_[0].inputs, turns_[1].inputs},
                     .to = device_,
                     .bytes = static_cast<int64_t>(staged_bytes_),
                     .ids = reinterpret_cast<const std::byte*>(step_.ids) - device_,
                     .id_count = step_.rows,
                     .last = slots_.last,
                     .slots = spec_.slots,
                     .turn = fetched_,
                     .arrived = fetched_ + 1},
                    stream_));
}

float* State::take_logits(int64_t rows, int64_t width) {
  GANTRY_CHECK(rows <= spec_.logit_rows_max && width <= spec_.vocab) << rows << " x " << width << " logits";
  logits_bytes_ = static_cast<size_t>(rows * width) * sizeof(float);
  return logits_;
}

State::Recording* State::find(const StepInputs& inputs) {
  for (Recording& recording : recordings_) {
    if (recording.rows == step_.rows && recording.context == step_.context &&
        recording.cache == inputs.cache && recording.draws == !inputs.draws.empty()) {
      return &recording;
    }
  }
  return nullptr;
}

bool State::begin(const StepInputs& inputs) {
  GANTRY_CHECK(in_flight_ < kStepsAhead);
  stage(inputs);
  logits_to_ = inputs.logits;
  logits_bytes_ = inputs.logit_rows.size() * static_cast<size_t>(spec_.vocab) * sizeof(float);
  Recording* recording = nullptr;
  if (inputs.recordable && step_.rows <= kRecordedRowsMax) {
    recording = find(inputs);
    if (recording == nullptr && recordings_.size() < kRecordingsMax) {
      // The first time loads what the driver loads lazily; the second is recorded.
      recordings_.push_back({step_.rows, step_.context, inputs.cache, !inputs.draws.empty(), nullptr});
    }
  }
  if (times_ != nullptr) note(cuda_status(cudaEventRecord(watch(launched_).start, stream_), "a step"));
  if (recording != nullptr && recording->graph != nullptr) {
    note(cuda_status(cudaGraphLaunch(recording->graph, stream_), "a recorded step"));
    return true;
  }
  if (recording != nullptr) {
    const Status status =
        cuda_status(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "recording");
    note(status);
    if (status.ok()) recording_ = recording;
  }
  fetch();
  return false;
}

void State::end_recording() {
  if (recording_ == nullptr) return;
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

Status State::finish() {
  end_recording();
  if (logits_to_ != nullptr && logits_bytes_ > 0) {
    note(cuda_status(cudaMemcpyAsync(logits_to_, logits_, logits_bytes_, cudaMemcpyDeviceToHost, stream_),
                     "logits"));
  }
  logits_to_ = nullptr;
  turn_ = (turn_ + 1) % kStepsAhead;
  note(cuda_status(cudaStreamSynchronize(stream_), "the GPU"));
  return failure_;
}

Status State::launch() {
  end_recording();
  note(cuda_status(cudaEventRecord(turns_[static_cast<size_t>(turn_)].done, stream_), "a step"));
  if (times_ != nullptr) note(cuda_status(cudaEventRecord(watch(launched_).end, stream_), "a step"));
  ++launched_;
  turn_ = (turn_ + 1) % kStepsAhead;
  ++in_flight_;
  return failure_;
}

Result<std::span<const Drawn>> State::collect() {
  GANTRY_CHECK(in_flight_ > 0) << "no step was launched";
  const int oldest = (turn_ + kStepsAhead - in_flight_) % kStepsAhead;
  const Turn& turn = turns_[static_cast<size_t>(oldest)];
  note(cuda_status(cudaEventSynchronize(turn.done), "the GPU"));
  --in_flight_;
  GANTRY_RETURN_IF_ERROR(failure_);
  if (times_ != nullptr && collected_ > 0) {
    StepTime time;
    note(cuda_status(cudaEventSynchronize(watch(collected_).end), "a step"));
    note(cuda_status(cudaEventElapsedTime(&time.step_us, watch(collected_).start, watch(collected_).end),
                     "a step"));
    note(cuda_status(cudaEventElapsedTime(&time.gap_us, watch(collected_ - 1).end, watch(collected_).start),
                     "a step"));
    times_->push_back({1000 * time.step_us, 1000 * time.gap_us});
  }
  ++collected_;
  return std::span<const Drawn>(results_ + oldest * spec_.logit_rows_max, turn.drawn);
}

void State::draw(const DrawArgs& args) {
  GANTRY_CHECK(spec_.slots > 0 && args.vocab == spec_.vocab);
  note(launch_draw({.logits = args.logits != nullptr ? args.logits : logits_,
                    .rows = step_.draws,
                    .turn = step_.turn,
                    .results = results_,
                    .results_stride = spec_.logit_rows_max,
                    .vocab = static_cast<int32_t>(args.vocab),
                    .slots = slots_},
                   static_cast<int64_t>(args.rows.size()), stream_));
}

// Copies out of the caller's memory return when it has been read.
void State::start_slot(const SlotStart& start) {
  GANTRY_CHECK(start.slot < spec_.slots);
  const auto send = [&](auto* to, const auto* from, size_t count) {
    if (count == 0) return;
    note(cuda_status(cudaMemcpyAsync(to, from, count * sizeof(*to), cudaMemcpyHostToDevice, stream_),
                     "a slot"));
  };
  const int64_t slot = start.slot;
  std::array<int32_t, limits::kLogitBiasMax> ids;
  std::array<float, limits::kLogitBiasMax> biases;
  for (size_t i = 0; i < start.biases.size(); ++i) std::tie(ids[i], biases[i]) = start.biases[i];
  const int32_t lengths[2] = {static_cast<int32_t>(start.biases.size()),
                              static_cast<int32_t>(start.end_tokens.size())};
  send(slots_.lengths + 2 * slot, lengths, 2);
  send(slots_.bias_ids + slot * static_cast<int64_t>(limits::kLogitBiasMax), ids.data(), start.biases.size());
  send(slots_.biases + slot * static_cast<int64_t>(limits::kLogitBiasMax), biases.data(),
       start.biases.size());
  send(slots_.end_tokens + slot * static_cast<int64_t>(kSlotEndTokensMax), start.end_tokens.data(),
       start.end_tokens.size());
  if (!start.penalises) return;
  uint32_t* counts = slots_.counts + slot * spec_.vocab;
  note(cuda_status(cudaMemsetAsync(counts, 0, static_cast<size_t>(spec_.vocab) * sizeof(uint32_t), stream_),
                   "a slot"));
  const size_t count = start.prompt.size() + start.generated.size();
  GANTRY_CHECK(count <= static_cast<size_t>(spec_.context_max)) << count << " tokens";
  send(slot_ids_, start.prompt.data(), start.prompt.size());
  send(slot_ids_ + start.prompt.size(), start.generated.data(), start.generated.size());
  note(launch_count({.ids = slot_ids_,
                     .prompt = static_cast<int64_t>(start.prompt.size()),
                     .count = static_cast<int64_t>(count),
                     .counts = counts},
                    stream_));
}

}  // namespace gantry::cuda

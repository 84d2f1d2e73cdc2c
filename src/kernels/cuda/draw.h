// Draws tokens from rows of logits on the device (kernels/ops/draw.h): a cluster of blocks a row, whose logits stay in
// its shared memory from the first look to the token.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "base/status.h"
#include "kernels/ops/draw.h"

namespace gantry::cuda {

// What is known of each slot's sequence, on the device.
struct DrawSlots {
  int32_t* last = nullptr;        // [slots] token drawn last
  uint32_t* counts = nullptr;     // [slots, vocab] times generated; kInPrompt: in the prompt too
  int32_t* bias_ids = nullptr;    // [slots, kLogitBiasMax]
  float* biases = nullptr;        // [slots, kLogitBiasMax]
  int32_t* end_tokens = nullptr;  // [slots, kSlotEndTokensMax]
  int32_t* lengths = nullptr;     // [slots, 2] of the two lists
};
inline constexpr uint32_t kInPrompt = 1u << 31;

struct DrawParams {
  const float* logits = nullptr;  // [rows, vocab]
  const DrawRow* rows = nullptr;  // [rows]
  const int32_t* turn = nullptr;  // which of the results' buffers
  Drawn* results = nullptr;       // [turns, results_stride], the host's page-locked memory
  int64_t results_stride = 0;
  int32_t vocab = 0;
  int32_t part = 0;  // logits of one block: whole groups of 64, the last one's may be fewer
  DrawSlots slots{};
};
// kUnimplemented where a vocabulary does not fit the cluster's shared memory.
Status check_draw(int64_t vocab);
Status launch_draw(DrawParams params, int64_t rows, cudaStream_t stream);

// Adds the slot's tokens to its counts, which are 0: the first `prompt` of `ids` were in the prompt, the others are
// generated.
struct CountParams {
  const int32_t* ids = nullptr;  // [count]
  int64_t prompt = 0;
  int64_t count = 0;
  uint32_t* counts = nullptr;  // [vocab]
};
Status launch_count(const CountParams& params, cudaStream_t stream);

}  // namespace gantry::cuda

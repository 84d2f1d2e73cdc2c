// From the picks of many rows to the experts' chunks (prefill_gemm_launch.h), on the device. A slot is a (row, expert)
// pair; slots are sorted by expert, in any order within one: no row's result depends on its slot.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "base/status.h"
#include "kernels/cuda/sm90/prefill_gemm_launch.h"
#include "kernels/cuda/sm90/routing.h"

namespace gantry::sm90 {

inline constexpr int kPrefillExpertsMax = 512;

struct PrefillDispatchShape {
  int rows = 0;
  int experts = 0;  // at most kPrefillExpertsMax
  int picks = 0;    // of a row
};
// Slots, each expert's first a multiple of kSlotAlign, and the rest of the last tile.
int prefill_slots(const PrefillDispatchShape& shape);
int prefill_chunks(const PrefillDispatchShape& shape);
// int32 of PrefillDispatchArgs::counts.
int64_t prefill_count_words(const PrefillDispatchShape& shape);

struct PrefillDispatchArgs {
  PrefillDispatchShape shape{};
  Routing routing{};          // reads ids, writes slot_of and token_of
  int32_t* counts = nullptr;  // workspace
  PrefillChunk* chunks = nullptr;
  int32_t* chunk_count = nullptr;
  int32_t* next_tiles = nullptr;  // [2] of gate_up and down: set to 0
};
Status launch_prefill_dispatch(const PrefillDispatchArgs& args, cudaStream_t stream);

// Copies each row (e4m3 and scales) to its slots.
struct PrefillScatterArgs {
  PrefillDispatchShape shape{};
  int hidden = 0;              // a multiple of 128, at most 16384
  const uint8_t* x = nullptr;  // [rows, hidden]
  const float* x_scale = nullptr;
  int x_scale_stride = 0;
  uint8_t* slots = nullptr;  // [prefill_slots, hidden]
  float* slot_scale = nullptr;
  int slot_scale_stride = 0;
  const int32_t* slot_of = nullptr;  // [rows, picks]
};
Status launch_prefill_scatter(const PrefillScatterArgs& args, cudaStream_t stream);

}  // namespace gantry::sm90

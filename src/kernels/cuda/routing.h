// The gate of DeepSeek-V3 for any configuration (GateParams, args.h), and the order in which experts take rows. Rows
// come in turns of at most routing_rows(); the fast path for R1's shapes is sm90/routing.h.
#pragma once

#include <cuda_runtime.h>

#include "base/status.h"
#include "kernels/ops/args.h"

namespace gantry::cuda {

inline constexpr int64_t kPicksMax = 4096;  // of one turn

inline int64_t routing_rows(int64_t experts_per_token) {
  const int64_t rows = kPicksMax / experts_per_token;
  return rows < 1 ? 1 : rows > 256 ? 256 : rows;
}

// Device buffers of one turn. A slot is a (row, expert) pair; slots are sorted by expert, then by row.
struct Routing {
  int32_t* ids = nullptr;       // [rows, experts_per_token], ascending
  float* weights = nullptr;     // [rows, experts_per_token]
  int32_t* slot_of = nullptr;   // [rows, experts_per_token]
  int32_t* token_of = nullptr;  // [rows * experts_per_token]
  int32_t* offsets = nullptr;   // [experts + 1] first slot of each expert
};

struct GateArgs {
  const float* logits = nullptr;  // [rows, experts]
  const float* bias = nullptr;    // [experts] or null
  GateParams params{};
  Routing routing{};
};
// logits[r, e] = x[r] . weight[e] in f32; a row's sums have one order.
struct GateLogitsArgs {
  const float* x = nullptr;       // [rows, hidden]
  const float* weight = nullptr;  // [experts, hidden]
  int64_t hidden = 0;
  int32_t experts = 0;
  float* logits = nullptr;  // [rows, experts]
};
Status launch_gate_logits(const GateLogitsArgs& args, int64_t rows, cudaStream_t stream);

Status launch_gate(const GateArgs& args, int64_t rows, cudaStream_t stream);
// slot_of, token_of and offsets from ids.
Status launch_sort_picks(const GateArgs& args, int64_t rows, cudaStream_t stream);

// out[row] += sum over its picks, ascending by expert: weight * y[slot].
struct CombineArgs {
  const float* y = nullptr;  // [slots, hidden]
  float* out = nullptr;      // [rows, hidden]
  int64_t hidden = 0;
  int32_t picks = 0;
  Routing routing{};
};
Status launch_combine(const CombineArgs& args, int64_t rows, cudaStream_t stream);

}  // namespace gantry::cuda

// Routed experts in FP8 by the grouped GEMMs of sm90/: for few rows those of expert_gemm.h, for many prefill_gemm.h's.
#pragma once

#include "kernels/cuda/routing.h"
#include "kernels/cuda/state.h"
#include "kernels/ops/args.h"
#include "kernels/ops/backend.h"
#include "kernels/ops/scratch.h"

namespace gantry::cuda {

inline constexpr int64_t kFp8ExpertRows = 128;        // of a turn of few rows
inline constexpr int64_t kFp8ExpertRowsMany = 16384;  // and of many: all weights are read once a turn

// Rows of the turns of a step of `rows`.
inline int64_t fp8_expert_turn(int64_t rows) {
  return rows <= kFp8ExpertRows ? kFp8ExpertRows : kFp8ExpertRowsMany;
}

// Backend::takes_shared_entry: where the weights stay FP8 and the shape, with one more expert, is the kernels'.
bool takes_shared_entry(const ExpertsShape& shape);
// Whether the weights stayed FP8 and the shape is the kernels'.
bool takes_fp8_experts(const MoeArgs& args);
size_t fp8_experts_bytes(const ScratchSpec& spec);
// Rows `first` on: args.out += their experts' outputs. normed [rows of args, hidden]: the rows' norm, left for the caller.
void fp8_experts(State& state, Scratch scratch, const MoeArgs& args, int64_t first, int64_t rows,
                 float* normed);

}  // namespace gantry::cuda

// Routed experts in FP8 by the grouped GEMMs of sm90/, in turns of up to kFp8ExpertRows rows.
#pragma once

#include "kernels/cuda/routing.h"
#include "kernels/cuda/state.h"
#include "kernels/ops/args.h"
#include "kernels/ops/scratch.h"

namespace gantry::cuda {

inline constexpr int64_t kFp8ExpertRows = 128;

// Whether the weights stayed FP8 and the shape is the kernels'.
bool takes_fp8_experts(const MoeArgs& args);
size_t fp8_experts_bytes(const ScratchSpec& spec);
// out[r] += its experts' outputs, for rows whose norm is `normed` [rows, hidden].
void fp8_experts(State& state, Scratch scratch, const MoeArgs& args, const float* normed, int64_t rows,
                 float* out);

}  // namespace gantry::cuda

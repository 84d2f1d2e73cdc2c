// The scalar part of DeepSeek-V3's gate, shared by the CPU backends (args.h, GateParams).
#pragma once

#include <span>

#include "kernels/ops/args.h"

namespace gantry {

// logits [experts] of one row; bias [experts] or null. Writes the experts_per_token chosen experts,
// ascending, and their weights. Needs scores_scratch [experts].
void gate_select(const GateParams& params, const float* logits, const float* bias, float* scores_scratch,
                 std::span<int32_t> ids, std::span<float> weights);

// Whether the counts fit each other: groups divide experts, and topk_group groups hold experts_per_token.
bool gate_params_valid(const GateParams& params);

}  // namespace gantry

// The published FP8 recipe's activations (DeepSeek-V3, arXiv 2412.19437, section 3.3.2): before a linear with FP8
// weights, each run of 128 columns of a row is rounded to e4m3 times a scale of its own, largest |x| / 448.
// Shared by the CPU backends, where it serves comparison with engines that compute in FP8.
#pragma once

#include <span>

#include "kernels/ops/packed_weight.h"

namespace gantry {

// Whether the linear's rows are rounded before a part of this dtype.
bool rounds_activations(Compute compute, DType dtype);

// out[i] = the value of x[i] after the round trip; out may be x. compute is one of kF8 and kF8PowerOfTwo.
void round_activations(std::span<const float> x, Compute compute, std::span<float> out);

}  // namespace gantry

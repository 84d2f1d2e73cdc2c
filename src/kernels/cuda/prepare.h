// Weights into the GPU's memory (weight_layout.h).
#pragma once

#include <cstddef>
#include <span>

#include "base/status.h"
#include "kernels/ops/packed_weight.h"

namespace gantry::cuda {

// As Backend::packed_bytes and Backend::prepare; storage lies on the device. Biases follow the parts.
size_t packed_bytes(const WeightSpec& spec);
Result<PackedWeight> prepare(const WeightSpec& spec, std::span<std::byte> storage);

}  // namespace gantry::cuda

#pragma once

#include "kernels/ops/backend.h"

namespace gantry::reference {

// Bytes of scratch that moe() takes for the bounds, beside the row scratch of linear().
size_t moe_scratch_bytes(const ScratchSpec& spec);

}  // namespace gantry::reference

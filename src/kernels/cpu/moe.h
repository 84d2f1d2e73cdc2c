// The mixture of experts (DeepSeek-V3, arXiv 2412.19437, section 2.1.2).
#pragma once

#include "kernels/ops/backend.h"

namespace gantry::cpu {

void moe(const OpContext& context, const MoeArgs& args);
size_t moe_scratch_bytes(const ScratchSpec& spec);

}  // namespace gantry::cpu

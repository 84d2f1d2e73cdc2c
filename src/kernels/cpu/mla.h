// Multi-head latent attention, absorbed (DeepSeek-V2, arXiv 2405.04434, section 2.1).
#pragma once

#include "kernels/ops/backend.h"

namespace gantry::cpu {

void mla_project(const OpContext& context, const MlaProjectArgs& args);
void mla_attend(const OpContext& context, const MlaAttendArgs& args);

size_t mla_scratch_bytes(const ScratchSpec& spec);

}  // namespace gantry::cpu

// embed, norm_linear, qkv_project, mlp and head of the CPU backends.
#pragma once

#include "kernels/ops/backend.h"

namespace gantry::cpu {

void embed(const OpContext& context, const EmbedArgs& args);
void norm(const OpContext& context, const NormArgs& args);
void norm_linear(const OpContext& context, const NormLinearArgs& args);
void qkv_project(const OpContext& context, const QkvProjectArgs& args);
void mlp(const OpContext& context, const MlpArgs& args);
void head(const OpContext& context, const HeadArgs& args);

size_t dense_scratch_bytes(const ScratchSpec& spec);

}  // namespace gantry::cpu

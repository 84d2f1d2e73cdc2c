// The ops of the CUDA backend (kernels/ops/args.h).
#pragma once

#include "kernels/ops/backend.h"

namespace gantry::cuda {

size_t scratch_bytes(const ScratchSpec& spec);

void embed(const OpContext& context, const EmbedArgs& args);
void norm(const OpContext& context, const NormArgs& args);
void norm_linear(const OpContext& context, const NormLinearArgs& args);
void qkv_project(const OpContext& context, const QkvProjectArgs& args);
void attend(const OpContext& context, const AttendArgs& args);
void mla_project(const OpContext& context, const MlaProjectArgs& args);
void mla_attend(const OpContext& context, const MlaAttendArgs& args);
void mlp(const OpContext& context, const MlpArgs& args);
void moe(const OpContext& context, const MoeArgs& args);
void head(const OpContext& context, const HeadArgs& args);

}  // namespace gantry::cuda

// The ops as the model calls them: each checks shapes (our bugs, so CHECK) and dispatches to the context's
// backend.
#pragma once

#include "kernels/ops/backend.h"

namespace gantry::ops {

// Before the ops of a step; true: they need not be called (StepInputs::recordable).
bool begin_step(const OpContext& context, const StepInputs& inputs);
// After them: what they wrote for the host is there. A device that fails does so for good, and ends the process.
void finish(const OpContext& context);
// Instead of finish(), of a backend that draws: Backend::launch, and Backend::collect for the oldest step.
void launch(const OpContext& context);
std::span<const Drawn> collect(const OpContext& context);
void start_slot(const OpContext& context, const SlotStart& start);

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
void draw(const OpContext& context, const DrawArgs& args);

}  // namespace gantry::ops

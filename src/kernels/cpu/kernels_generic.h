// Portable micro-kernels. Activations stay f32 for every format: without integer dot products, int8 would
// lose precision and gain no speed.
#pragma once

#include "kernels/cpu/micro_kernels.h"

namespace gantry::cpu {

void fill_kernels_generic(MicroKernels& kernels);

}  // namespace gantry::cpu

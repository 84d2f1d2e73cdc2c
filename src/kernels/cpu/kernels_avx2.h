// The pieces of the AVX2 table; each is compiled on its own and runs only where the machine has its
// instructions.
#pragma once

#include "kernels/cpu/micro_kernels.h"

namespace gantry::cpu {

void fill_float_gemms_avx2(MicroKernels& kernels);
void fill_int8_gemms_avx2(MicroKernels& kernels);
void fill_elementwise_avx2(MicroKernels& kernels);
void fill_attention_avx2(MicroKernels& kernels);

}  // namespace gantry::cpu

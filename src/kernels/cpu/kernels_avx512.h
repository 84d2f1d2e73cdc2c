// The pieces of the AVX-512 table; each is compiled on its own and runs only where the machine has its
// instructions.
#pragma once

#include "kernels/cpu/micro_kernels.h"

namespace gantry::cpu {

void fill_float_gemms_avx512(MicroKernels& kernels);
void fill_int8_gemms_avx512(MicroKernels& kernels);
void fill_bf16_gemm_avx512(MicroKernels& kernels);  // needs AVX512_BF16
void fill_fp8_gemm_avx512(MicroKernels& kernels);   // needs AVX512_BF16 and AVX512_VBMI
void fill_elementwise_avx512(MicroKernels& kernels);
void fill_attention_avx512(MicroKernels& kernels);

}  // namespace gantry::cpu

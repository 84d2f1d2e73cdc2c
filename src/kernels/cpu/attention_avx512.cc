#include "kernels/cpu/kernels_avx512.h"
#include "kernels/cpu/simd/avx512.h"
#include "kernels/cpu/tile/attention.h"

namespace gantry::cpu {

void fill_attention_avx512(MicroKernels& kernels) { fill_attention<Avx512>(kernels); }

}  // namespace gantry::cpu

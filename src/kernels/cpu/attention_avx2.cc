#include "kernels/cpu/kernels_avx2.h"
#include "kernels/cpu/simd/avx2.h"
#include "kernels/cpu/tile/attention.h"

namespace gantry::cpu {

void fill_attention_avx2(MicroKernels& kernels) { fill_attention<Avx2>(kernels); }

}  // namespace gantry::cpu

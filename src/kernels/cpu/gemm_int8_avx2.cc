#include "kernels/cpu/kernels_avx2.h"
#include "kernels/cpu/simd/avx2.h"
#include "kernels/cpu/tile/int8_tile.h"

namespace gantry::cpu {

void fill_int8_gemms_avx2(MicroKernels& kernels) { fill_int8_gemms<Avx2>(kernels); }

}  // namespace gantry::cpu

#include "kernels/cpu/kernels_avx512.h"
#include "kernels/cpu/simd/avx512.h"
#include "kernels/cpu/tile/int8_tile.h"

namespace gantry::cpu {

void fill_int8_gemms_avx512(MicroKernels& kernels) { fill_int8_gemms<Avx512>(kernels); }

}  // namespace gantry::cpu

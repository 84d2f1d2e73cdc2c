#include "kernels/cpu/kernels_avx512.h"
#include "kernels/cpu/simd/avx512.h"
#include "kernels/cpu/tile/float_tile.h"

namespace gantry::cpu {

void fill_float_gemms_avx512(MicroKernels& kernels) { fill_float_gemms<Avx512>(kernels); }

}  // namespace gantry::cpu

#include "kernels/cpu/kernels_avx2.h"
#include "kernels/cpu/simd/avx2.h"
#include "kernels/cpu/tile/float_tile.h"

namespace gantry::cpu {

void fill_float_gemms_avx2(MicroKernels& kernels) { fill_float_gemms<Avx2>(kernels); }

}  // namespace gantry::cpu

#include "kernels/cpu/kernels_avx512.h"
#include "kernels/cpu/simd/avx512.h"
#include "kernels/cpu/tile/float_tile.h"
#include "kernels/cpu/tile/fp8_tile.h"

namespace gantry::cpu {

void fill_float_gemms_avx512(MicroKernels& kernels) {
  fill_float_gemms<Avx512>(kernels);
  kernels.gemm[static_cast<size_t>(DType::kF8E4M3)] = gemm<Avx512, Fp8Tile<Avx512>>;
}

}  // namespace gantry::cpu

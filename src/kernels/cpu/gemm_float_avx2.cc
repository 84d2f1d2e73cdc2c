#include "kernels/cpu/kernels_avx2.h"
#include "kernels/cpu/simd/avx2.h"
#include "kernels/cpu/tile/float_tile.h"
#include "kernels/cpu/tile/fp8_tile.h"

namespace gantry::cpu {

void fill_float_gemms_avx2(MicroKernels& kernels) {
  fill_float_gemms<Avx2>(kernels);
  kernels.gemm[static_cast<size_t>(DType::kF8E4M3)] = gemm<Avx2, Fp8Tile<Avx2>>;
}

}  // namespace gantry::cpu

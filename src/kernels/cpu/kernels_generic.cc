#include "kernels/cpu/kernels_generic.h"

#include "kernels/cpu/simd/generic.h"
#include "kernels/cpu/tile/attention.h"
#include "kernels/cpu/tile/elementwise.h"
#include "kernels/cpu/tile/float_tile.h"
#include "kernels/cpu/tile/fp8_tile.h"

namespace gantry::cpu {

void fill_kernels_generic(MicroKernels& kernels) {
  fill_float_gemms<Generic>(kernels);
  kernels.gemm[static_cast<size_t>(DType::kF8E4M3)] = gemm<Generic, Fp8Tile<Generic>>;
  fill_elementwise<Generic>(kernels);
  fill_attention<Generic>(kernels);
}

}  // namespace gantry::cpu

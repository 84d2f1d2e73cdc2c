#include "kernels/cpu/kernels_avx512.h"
#include "kernels/cpu/simd/avx512.h"
#include "kernels/cpu/tile/fp8_bf16_tile.h"

namespace gantry::cpu {

void fill_fp8_gemm_avx512(MicroKernels& kernels) {
  kernels.gemm_fast[static_cast<size_t>(DType::kF8E4M3)] = gemm<Avx512, Fp8Bf16Tile>;
  kernels.fast_kind[static_cast<size_t>(DType::kF8E4M3)] = ActivationKind::kBF16;
}

}  // namespace gantry::cpu

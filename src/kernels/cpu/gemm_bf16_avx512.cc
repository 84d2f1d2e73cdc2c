#include "kernels/cpu/kernels_avx512.h"
#include "kernels/cpu/simd/avx512.h"
#include "kernels/cpu/tile/bf16_tile.h"

namespace gantry::cpu {

void fill_bf16_gemm_avx512(MicroKernels& kernels) {
  kernels.gemm_fast[static_cast<size_t>(DType::kBF16)] = gemm<Avx512, Bf16Tile>;
  kernels.fast_kind[static_cast<size_t>(DType::kBF16)] = ActivationKind::kBF16;
}

}  // namespace gantry::cpu

#include "kernels/cpu/kernels_avx2.h"
#include "kernels/cpu/simd/avx2.h"
#include "kernels/cpu/tile/elementwise.h"

namespace gantry::cpu {

void fill_elementwise_avx2(MicroKernels& kernels) {
  fill_elementwise<Avx2>(kernels);
  kernels.quantize_int8 = quantize_int8<Avx2>;
}

}  // namespace gantry::cpu

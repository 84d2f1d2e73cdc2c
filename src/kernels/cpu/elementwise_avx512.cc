#include "kernels/cpu/kernels_avx512.h"
#include "kernels/cpu/simd/avx512.h"
#include "kernels/cpu/tile/elementwise.h"

namespace gantry::cpu {

void fill_elementwise_avx512(MicroKernels& kernels) {
  fill_elementwise<Avx512>(kernels);
  kernels.quantize_int8 = quantize_int8<Avx512>;
}

}  // namespace gantry::cpu

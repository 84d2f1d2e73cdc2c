// The optimised CPU backends. ops/select.cc lists them beside the reference with what each needs of the
// machine.
#pragma once

#include "kernels/ops/backend.h"

namespace gantry {

const Backend* generic_backend();  // C++ alone, any machine
const Backend* avx2_backend();     // x86-64: AVX2, FMA, F16C
const Backend* avx512_backend();   // x86-64: AVX-512 F, BW, VL, DQ, VNNI; uses BF16 where present

}  // namespace gantry

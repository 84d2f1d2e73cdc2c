#include "kernels/ops/round_activations.h"

#include <cmath>

#include "tensor/convert.h"

namespace gantry {

bool rounds_activations(Compute compute, DType dtype) {
  return dtype == DType::kF8E4M3 && (compute == Compute::kF8 || compute == Compute::kF8PowerOfTwo);
}

void round_activations(std::span<const float> x, Compute compute, std::span<float> out) {
  constexpr auto kBlock = static_cast<size_t>(kScaleBlock);
  for (size_t first = 0; first < x.size(); first += kBlock) {
    const size_t last = first + kBlock < x.size() ? first + kBlock : x.size();
    float largest = 0;
    for (size_t i = first; i < last; ++i) largest = std::fmax(largest, std::fabs(x[i]));
    float scale = largest / kE4m3Max;
    if (compute == Compute::kF8PowerOfTwo && scale > 0) scale = std::exp2(std::ceil(std::log2(scale)));
    for (size_t i = first; i < last; ++i) {
      out[i] = scale > 0 ? e4m3_to_f32(f32_to_e4m3(x[i] / scale)) * scale : x[i];
    }
  }
}

}  // namespace gantry

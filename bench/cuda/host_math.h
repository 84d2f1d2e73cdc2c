// e4m3 and bf16 on the host, and the reference backend as the oracle of a product.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace gantry::bench {

float e4m3_to_f32(uint8_t code);
// Round to nearest even, saturating at 448.
uint8_t f32_to_e4m3(float value);

// A matrix quantised per 1 x 128 group as the kernels do it: codes [rows, width], scales [width / 128,
// stride].
struct Quantized {
  std::vector<uint8_t> codes;
  std::vector<float> scales;
  int stride = 0;
  std::vector<float> values;  // dequantised, [rows, width]
};
Quantized quantize_rows(const std::vector<float>& x, int rows, int width, int stride);

// W e4m3 [rows, cols] with 128 x 128 block scales, dequantised.
std::vector<float> dequantize_blocks(const uint8_t* codes, const float* scales, int rows, int cols);

// x [m, k] times w [n, k] transposed, by kernels/reference.
std::vector<float> reference_linear(const std::vector<float>& x, const std::vector<float>& w, int m, int n,
                                    int k);

std::vector<float> normals(size_t count, float sigma, uint64_t seed);
std::vector<float> from_bf16(const std::vector<uint16_t>& bits);

}  // namespace gantry::bench

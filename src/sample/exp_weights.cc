#include "sample/exp_weights.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include "sample/candidates.h"

namespace gantry {
namespace {

constexpr int kLanes = 16;

// Cephes' expf: range reduction by ln 2 in two parts, then a polynomial of degree 5 on [-ln2/2, ln2/2].
// Branch-free, so that the compiler makes vectors of it.
inline float exp_nonpositive(float x) {
  constexpr float kLowest = -87.0f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float clamped = x > kLowest ? x : kLowest;
  const float shifted = clamped * 1.44269504088896341f + kRound;
  const float n = shifted - kRound;
  const float r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // The low bits of `shifted` are n: moved to the exponent field they scale by 2^n.
  const uint32_t exponent = std::bit_cast<uint32_t>(shifted) << 23;
  const float scaled = std::bit_cast<float>(std::bit_cast<uint32_t>(p) + exponent);
  return x >= kLowest ? scaled : 0.0f;
}

// One block, 16 lanes that are then added in order.
template <bool kStore>
double block_exp(const float* logits, int64_t count, float shift, float scale, float* weights) {
  std::array<float, kLanes> lanes{};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) {
      const float w = exp_nonpositive((logits[i + l] - shift) * scale);
      if constexpr (kStore) weights[i + l] = w;
      lanes[static_cast<size_t>(l)] += w;
    }
  }
  for (int64_t l = 0; i + l < count; ++l) {
    const float w = exp_nonpositive((logits[i + l] - shift) * scale);
    if constexpr (kStore) weights[i + l] = w;
    lanes[static_cast<size_t>(l)] += w;
  }
  double sum = 0;
  for (const float lane : lanes) sum += static_cast<double>(lane);
  return sum;
}

}  // namespace

double exp_weights(std::span<const float> logits, float shift, float scale, std::span<float> weights,
                   std::span<double> block_sum) {
  const auto vocab = static_cast<int64_t>(logits.size());
  double total = 0;
  for (int64_t begin = 0, b = 0; begin < vocab; begin += kLogitBlock, ++b) {
    const int64_t count = std::min<int64_t>(kLogitBlock, vocab - begin);
    const double sum = block_exp<true>(logits.data() + begin, count, shift, scale, weights.data() + begin);
    block_sum[static_cast<size_t>(b)] = sum;
    total += sum;
  }
  return total;
}

double exp_sum(std::span<const float> logits, float shift, float scale) {
  const auto vocab = static_cast<int64_t>(logits.size());
  double total = 0;
  for (int64_t begin = 0; begin < vocab; begin += kLogitBlock) {
    const int64_t count = std::min<int64_t>(kLogitBlock, vocab - begin);
    total += block_exp<false>(logits.data() + begin, count, shift, scale, nullptr);
  }
  return total;
}

float exp_weight(float logit, float shift, float scale) { return exp_nonpositive((logit - shift) * scale); }

}  // namespace gantry

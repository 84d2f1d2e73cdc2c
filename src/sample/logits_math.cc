#include "sample/logits_math.h"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <limits>

namespace gantry {
namespace {

constexpr int kLanes = 16;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

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

bool block_maxima(std::span<const float> logits, std::span<float> block_max) {
  int bad = 0;
  const auto vocab = static_cast<int64_t>(logits.size());
  for (int64_t begin = 0, b = 0; begin < vocab; begin += kLogitBlock, ++b) {
    const float* x = logits.data() + begin;
    const int64_t count = std::min<int64_t>(kLogitBlock, vocab - begin);
    std::array<float, kLanes> lanes;
    std::array<int, kLanes> wrong{};
    lanes.fill(-kInfinity);
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
      for (size_t l = 0; l < kLanes; ++l) {
        const float v = x[i + static_cast<int64_t>(l)];
        lanes[l] = v > lanes[l] ? v : lanes[l];
        wrong[l] |= v < kInfinity ? 0 : 1;
      }
    }
    for (size_t l = 0; i + static_cast<int64_t>(l) < count; ++l) {
      const float v = x[i + static_cast<int64_t>(l)];
      lanes[l] = v > lanes[l] ? v : lanes[l];
      wrong[l] |= v < kInfinity ? 0 : 1;
    }
    block_max[static_cast<size_t>(b)] = *std::max_element(lanes.begin(), lanes.end());
    for (const int w : wrong) bad |= w;
  }
  return bad == 0;
}

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

void candidates_from(std::span<const float> logits, std::span<const float> block_max, float bound,
                     std::vector<Candidate>& out) {
  out.clear();
  for (size_t b = 0; b < block_max.size(); ++b) {
    if (block_max[b] < bound) continue;
    const size_t end = std::min(logits.size(), (b + 1) * kLogitBlock);
    for (size_t i = b * kLogitBlock; i < end; ++i) {
      if (logits[i] >= bound) out.push_back({logits[i], static_cast<TokenId>(i)});
    }
  }
  std::sort(out.begin(), out.end(), better);
}

void best_candidates(std::span<const float> logits, std::span<const float> block_max,
                     std::span<float> block_scratch, int64_t count, std::vector<Candidate>& out) {
  out.clear();
  count = std::min(count, static_cast<int64_t>(logits.size()));
  // At least `count` logits reach the count-th largest block maximum.
  float bound = -kInfinity;
  if (count <= static_cast<int64_t>(block_max.size())) {
    std::copy(block_max.begin(), block_max.end(), block_scratch.begin());
    const auto nth = block_scratch.begin() + (count - 1);
    std::nth_element(block_scratch.begin(), nth,
                     block_scratch.begin() + static_cast<int64_t>(block_max.size()), std::greater<>());
    bound = *nth;
  }
  for (size_t b = 0; b < block_max.size(); ++b) {
    if (block_max[b] < bound) continue;
    const size_t end = std::min(logits.size(), (b + 1) * kLogitBlock);
    for (size_t i = b * kLogitBlock; i < end; ++i) {
      if (logits[i] >= bound) out.push_back({logits[i], static_cast<TokenId>(i)});
    }
  }
  const auto last = out.begin() + count;
  if (last != out.end()) std::nth_element(out.begin(), last - 1, out.end(), better);
  out.erase(last, out.end());
  std::sort(out.begin(), out.end(), better);
}

}  // namespace gantry

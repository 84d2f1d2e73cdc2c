#include "sample/candidates.h"

#include <algorithm>
#include <array>
#include <functional>
#include <limits>

namespace gantry {
namespace {

constexpr int kLanes = 16;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

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
}

void best_candidates(std::span<const float> logits, std::span<const float> block_max,
                     std::span<float> block_scratch, int64_t count, std::vector<Candidate>& out) {
  count = std::min(count, static_cast<int64_t>(logits.size()));
  // At least `count` logits reach the count-th largest block maximum.
  float bound = -kInfinity;
  if (count <= static_cast<int64_t>(block_max.size())) {
    std::copy(block_max.begin(), block_max.end(), block_scratch.begin());
    const auto nth = block_scratch.begin() + (count - 1);
    const auto end = block_scratch.begin() + static_cast<int64_t>(block_max.size());
    std::nth_element(block_scratch.begin(), nth, end, std::greater<>());
    bound = *nth;
  }
  candidates_from(logits, block_max, bound, out);
  const auto last = out.begin() + count;
  if (last != out.end()) std::nth_element(out.begin(), last - 1, out.end(), better);
  out.erase(last, out.end());
  std::sort(out.begin(), out.end(), better);
}

}  // namespace gantry

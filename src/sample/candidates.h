// The best of one row of logits, without sorting it: maxima of blocks bound what can be among them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"

namespace gantry {

inline constexpr int kLogitBlock = 64;

inline constexpr int64_t logit_blocks(int64_t vocab) { return (vocab + kLogitBlock - 1) / kLogitBlock; }

// block_max[b] is the largest of logits [64 b, 64 b + 64). False if any is NaN or +infinity.
bool block_maxima(std::span<const float> logits, std::span<float> block_max);

struct Candidate {
  float logit;
  TokenId id;
};
// Best first; of equal logits the lower id.
inline bool better(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}
// The best `count` of the row, sorted, into `out`. `block_scratch` is as long as block_max. Allocates only
// while `out` has not grown to its greatest use.
void best_candidates(std::span<const float> logits, std::span<const float> block_max,
                     std::span<float> block_scratch, int64_t count, std::vector<Candidate>& out);
// All of at least `bound`, in order of id.
void candidates_from(std::span<const float> logits, std::span<const float> block_max, float bound,
                     std::vector<Candidate>& out);

}  // namespace gantry

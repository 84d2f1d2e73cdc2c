// Passes over one row of logits. Each adds in a fixed order that depends on the row's length alone, so that a
// row gives the same bits wherever it is computed.
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

// exp((logits[i] - shift) * scale) for shift >= every logit and scale > 0; exactly 0 below e^-87 and for
// -infinity. Relative error under 2e-7.
// Writes weights [vocab] and their sums by block; returns the sum of all.
double exp_weights(std::span<const float> logits, float shift, float scale, std::span<float> weights,
                   std::span<double> block_sum);
// The sum alone: the same bits.
double exp_sum(std::span<const float> logits, float shift, float scale);
float exp_weight(float logit, float shift, float scale);

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
// All of at least `bound`, sorted.
void candidates_from(std::span<const float> logits, std::span<const float> block_max, float bound,
                     std::vector<Candidate>& out);

}  // namespace gantry

// Unnormalised probabilities of one row of logits. Each sum has a fixed order that depends on the row's length alone, so
// that a row gives the same bits wherever it is computed.
#pragma once

#include <span>

namespace gantry {

// exp((logits[i] - shift) * scale) for shift >= every logit and scale > 0; exactly 0 below e^-87 and for
// -infinity. Relative error under 2e-7.
// Writes weights [vocab] and their sums by block; returns the sum of all.
double exp_weights(std::span<const float> logits, float shift, float scale, std::span<float> weights,
                   std::span<double> block_sum);
// The sum alone: the same bits.
double exp_sum(std::span<const float> logits, float shift, float scale);
float exp_weight(float logit, float shift, float scale);

}  // namespace gantry

#include "kernels/ops/gate.h"

#include <cmath>

#include "base/check.h"
#include "base/limits.h"

namespace gantry {
namespace {

// Sum of the two best selection scores of a group (the one score of a group of one).
float group_score(const float* scores, const float* bias, int32_t first, int32_t size) {
  float best = -INFINITY, second = -INFINITY;
  for (int32_t e = first; e < first + size; ++e) {
    const float score = scores[e] + (bias != nullptr ? bias[e] : 0.0f);
    if (score > best) {
      second = best;
      best = score;
    } else if (score > second) {
      second = score;
    }
  }
  return size == 1 ? best : best + second;
}

}  // namespace

bool gate_params_valid(const GateParams& p) {
  return p.experts > 0 && p.experts <= limits::kExpertsMax && p.groups > 0 && p.experts % p.groups == 0 &&
         p.topk_group > 0 && p.topk_group <= p.groups && p.experts_per_token > 0 &&
         p.experts_per_token <= p.topk_group * (p.experts / p.groups);
}

void gate_select(const GateParams& params, const float* logits, const float* bias, float* scores,
                 std::span<int32_t> ids, std::span<float> weights) {
  const int32_t group_size = params.experts / params.groups;
  for (int32_t e = 0; e < params.experts; ++e) scores[e] = 1.0f / (1.0f + std::exp(-logits[e]));

  // A masked expert has score -inf: it loses to every real one, whatever the sign of the biases.
  bool group_kept[limits::kExpertsMax] = {};
  bool chosen[limits::kExpertsMax] = {};
  float group_scores[limits::kExpertsMax];
  for (int32_t g = 0; g < params.groups; ++g) {
    group_scores[g] = group_score(scores, bias, g * group_size, group_size);
  }
  for (int32_t k = 0; k < params.topk_group; ++k) {
    int32_t best = -1;
    for (int32_t g = 0; g < params.groups; ++g) {
      if (!group_kept[g] && (best < 0 || group_scores[g] > group_scores[best])) best = g;
    }
    group_kept[best] = true;
  }
  for (int32_t k = 0; k < params.experts_per_token; ++k) {
    int32_t best = -1;
    float best_score = 0.0f;
    for (int32_t e = 0; e < params.experts; ++e) {
      if (chosen[e] || !group_kept[e / group_size]) continue;
      const float score = scores[e] + (bias != nullptr ? bias[e] : 0.0f);
      if (best < 0 || score > best_score) {
        best = e;
        best_score = score;
      }
    }
    chosen[best] = true;
  }

  size_t k = 0;
  float sum = 0.0f;
  for (int32_t e = 0; e < params.experts; ++e) {
    if (!chosen[e]) continue;
    ids[k] = e;
    weights[k++] = scores[e];
    sum += scores[e];
  }
  const float factor = params.normalize ? params.scaling / (sum + 1e-20f) : params.scaling;
  for (size_t i = 0; i < k; ++i) weights[i] *= factor;
}

}  // namespace gantry

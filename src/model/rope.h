// Rotary position embedding (arXiv 2104.09864): inverse frequencies with the scalings of published models,
// and each step's cosines and sines. Computed in f32 in the order of transformers, so that angles agree.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/ops/args.h"
#include "model/config.h"

namespace gantry {

// [dim / 2] radians per position: theta^(-2i / dim), scaled as rope.scaling says (linear; llama3; YaRN, arXiv
// 2309.00071). factors: empty, or [dim / 2] divisors (rope_freqs.weight of a GGUF file).
std::vector<float> inverse_frequencies(const RopeConfig& rope, int32_t dim, std::span<const float> factors);

// What cosines and sines are multiplied by; 1 without YaRN. With mscale and mscale_all_dim their ratio.
float rope_attention_factor(const RopeConfig& rope);

// DeepSeek-V2's softmax scale: dim^-0.5, times the square of 0.1 mscale_all_dim ln(factor) + 1 under YaRN.
float mla_softmax_scale(const RopeConfig& rope, int32_t qk_head_dim);

class Rope {
 public:
  Rope() = default;
  Rope(const RopeConfig& rope, int32_t dim, std::span<const float> factors = {})
      : inverse_(inverse_frequencies(rope, dim, factors)),
        attention_factor_(rope_attention_factor(rope)),
        interleaved_(rope.interleaved) {}

  int32_t pairs() const { return static_cast<int32_t>(inverse_.size()); }

  // Fills cos and sin [R, pairs] for the rows of `segments`.
  RopeRows rows(std::span<const Segment> segments, float* cos, float* sin) const;

 private:
  std::vector<float> inverse_;
  float attention_factor_ = 1.0f;
  bool interleaved_ = false;
};

}  // namespace gantry

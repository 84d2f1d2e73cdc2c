#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/check.h"

namespace gantry {
namespace {

double yarn_mscale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

// Llama 3.1: wavelengths beyond the original context are stretched, short ones kept, between them a blend.
void scale_llama3(const RopeConfig& rope, std::vector<float>& inverse) {
  const auto context = static_cast<float>(rope.original_max_position);
  const auto factor = static_cast<float>(rope.factor);
  const auto low = static_cast<float>(rope.low_freq_factor);
  const auto high = static_cast<float>(rope.high_freq_factor);
  const auto low_wavelength = static_cast<float>(static_cast<double>(context) / rope.low_freq_factor);
  const auto high_wavelength = static_cast<float>(static_cast<double>(context) / rope.high_freq_factor);
  for (float& f : inverse) {
    const float wavelength = 2.0f * std::numbers::pi_v<float> / f;
    if (wavelength > low_wavelength) {
      f /= factor;
    } else if (!(wavelength < high_wavelength)) {
      const float smooth = (context / wavelength - low) / (high - low);
      f = (1.0f - smooth) * f / factor + smooth * f;
    }
  }
}

// YaRN, section 3.2 (NTK by parts): dimensions that turn more than beta_fast times within the original
// context are kept, those that turn less than beta_slow times are interpolated, with a ramp between.
void scale_yarn(const RopeConfig& rope, int32_t dim, std::vector<float>& inverse) {
  const auto dimension_of_turns = [&](double turns) {
    return dim * std::log(static_cast<double>(rope.original_max_position) / (turns * 2 * std::numbers::pi)) /
           (2 * std::log(rope.theta));
  };
  double low = dimension_of_turns(rope.beta_fast);
  double high = dimension_of_turns(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1.0);
  if (low == high) high += 0.001;

  for (size_t i = 0; i < inverse.size(); ++i) {
    const float ramp = std::clamp(
        (static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low), 0.0f, 1.0f);
    const float kept = 1.0f - ramp;
    const float interpolated = inverse[i] / static_cast<float>(rope.factor);
    inverse[i] = interpolated * (1.0f - kept) + inverse[i] * kept;
  }
}

}  // namespace

std::vector<float> inverse_frequencies(const RopeConfig& rope, int32_t dim, std::span<const float> factors) {
  GANTRY_CHECK(dim > 0 && dim % 2 == 0) << "rotary dimension " << dim;
  std::vector<float> inverse(static_cast<size_t>(dim) / 2);
  for (size_t i = 0; i < inverse.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(dim);
    inverse[i] = 1.0f / std::pow(static_cast<float>(rope.theta), exponent);
  }
  switch (rope.scaling) {
    case RopeConfig::Scaling::kNone:
      break;
    case RopeConfig::Scaling::kLinear:
      for (float& f : inverse) f /= static_cast<float>(rope.factor);
      break;
    case RopeConfig::Scaling::kLlama3:
      scale_llama3(rope, inverse);
      break;
    case RopeConfig::Scaling::kYarn:
      scale_yarn(rope, dim, inverse);
      break;
  }
  if (!factors.empty()) {
    GANTRY_CHECK(factors.size() == inverse.size()) << factors.size() << " factors of " << inverse.size();
    for (size_t i = 0; i < inverse.size(); ++i) inverse[i] /= factors[i];
  }
  return inverse;
}

float rope_attention_factor(const RopeConfig& rope) {
  if (rope.scaling != RopeConfig::Scaling::kYarn) return 1.0f;
  if (rope.attention_factor != 0.0) return static_cast<float>(rope.attention_factor);
  if (rope.mscale != 0.0 && rope.mscale_all_dim != 0.0) {
    return static_cast<float>(yarn_mscale(rope.factor, rope.mscale) /
                              yarn_mscale(rope.factor, rope.mscale_all_dim));
  }
  return static_cast<float>(yarn_mscale(rope.factor, 1.0));
}

float mla_softmax_scale(const RopeConfig& rope, int32_t qk_head_dim) {
  double scale = 1.0 / std::sqrt(static_cast<double>(qk_head_dim));
  if (rope.scaling == RopeConfig::Scaling::kYarn && rope.mscale_all_dim != 0.0) {
    const double mscale = yarn_mscale(rope.factor, rope.mscale_all_dim);
    scale *= mscale * mscale;
  }
  return static_cast<float>(scale);
}

RopeRows Rope::rows(std::span<const Segment> segments, float* cos, float* sin) const {
  for (const Segment& segment : segments) {
    for (int32_t row = 0; row < segment.rows; ++row) {
      const size_t first =
          (static_cast<size_t>(segment.first_row) + static_cast<size_t>(row)) * inverse_.size();
      const auto position = static_cast<float>(segment.first_position + row);
      for (size_t i = 0; i < inverse_.size(); ++i) {
        const float angle = position * inverse_[i];
        cos[first + i] = std::cos(angle) * attention_factor_;
        sin[first + i] = std::sin(angle) * attention_factor_;
      }
    }
  }
  return {.cos = cos, .sin = sin, .pairs = pairs(), .interleaved = interleaved_};
}

}  // namespace gantry

#include "protocol/sampling_params.h"

#include <fmt/format.h>

#include "base/limits.h"

namespace gantry {
namespace {

// Also refuses NaN.
bool between(double value, double low, double high) { return value >= low && value <= high; }

Status range_error(const char* name, float value, const char* range) {
  return invalid_argument(fmt::format("{} is {}, must be {}", name, value, range), name);
}

Status count_error(const char* name, size_t count, size_t max) {
  return invalid_argument(fmt::format("{} has {} entries, at most {} are allowed", name, count, max), name);
}

Status id_error(const char* name, TokenId id, int64_t vocab_size) {
  return invalid_argument(
      fmt::format("{} has token id {}, must be between 0 and {}", name, id, vocab_size - 1), name);
}

Status validate_lists(const SamplingParams& params, int64_t vocab_size) {
  if (params.logit_bias.size() > limits::kLogitBiasMax) {
    return count_error("logit_bias", params.logit_bias.size(), limits::kLogitBiasMax);
  }
  for (const auto& [id, bias] : params.logit_bias) {
    if (id < 0 || id >= vocab_size) return id_error("logit_bias", id, vocab_size);
    if (!between(bias, -100, 100)) return range_error("logit_bias", bias, "between -100 and 100");
  }
  if (params.stop_token_ids.size() > limits::kStopTokenIdsMax) {
    return count_error("stop_token_ids", params.stop_token_ids.size(), limits::kStopTokenIdsMax);
  }
  for (const TokenId id : params.stop_token_ids) {
    if (id < 0 || id >= vocab_size) return id_error("stop_token_ids", id, vocab_size);
  }
  return {};
}

}  // namespace

Status validate(const SamplingParams& p, int64_t vocab_size) {
  if (p.n < 1 || p.n > limits::kChoicesMax) {
    return invalid_argument(fmt::format("n is {}, must be between 1 and {}", p.n, limits::kChoicesMax), "n");
  }
  if (p.max_tokens < 0 || (p.max_tokens == 0 && p.prompt_logprobs < 0)) {
    return invalid_argument(fmt::format("max_tokens is {}, must be at least 1", p.max_tokens), "max_tokens");
  }
  if (p.min_tokens < 0 || p.min_tokens > p.max_tokens) {
    return invalid_argument(
        fmt::format("min_tokens is {}, must be between 0 and max_tokens ({})", p.min_tokens, p.max_tokens),
        "min_tokens");
  }
  if (!between(p.temperature, 0, 2)) return range_error("temperature", p.temperature, "between 0 and 2");
  if (!(p.top_p > 0 && p.top_p <= 1)) return range_error("top_p", p.top_p, "above 0 and at most 1");
  if (p.top_k < 0) return range_error("top_k", p.top_k, "0 (all) or more");
  if (!between(p.min_p, 0, 1)) return range_error("min_p", p.min_p, "between 0 and 1");
  if (!between(p.presence_penalty, -2, 2)) {
    return range_error("presence_penalty", p.presence_penalty, "between -2 and 2");
  }
  if (!between(p.frequency_penalty, -2, 2)) {
    return range_error("frequency_penalty", p.frequency_penalty, "between -2 and 2");
  }
  if (!(p.repetition_penalty > 0 && p.repetition_penalty <= 2)) {
    return range_error("repetition_penalty", p.repetition_penalty, "above 0 and at most 2");
  }
  for (const auto& [name, value] :
       {std::pair{"logprobs", p.logprobs}, std::pair{"prompt_logprobs", p.prompt_logprobs}}) {
    if (value < -1 || value > limits::kTopLogprobsMax) {
      return invalid_argument(
          fmt::format("{} is {}, must be between 0 and {}", name, value, limits::kTopLogprobsMax), name);
    }
  }
  return validate_lists(p, vocab_size);
}

}  // namespace gantry

#include "sample/draw_row.h"

#include "sample/philox.h"

namespace gantry {

DrawRow draw_row(const GenerateRequest& request, int32_t choice, int32_t slot, int32_t position) {
  const SamplingParams& p = request.params;
  const int32_t generated = position - static_cast<int32_t>(request.prompt.size());
  return {.uniform = uniform_at(p.seed, choice, position),
          .slot = slot,
          .logprobs = p.logprobs,
          .top_k = p.top_k,
          .top_p = p.top_p,
          .min_p = p.min_p,
          .inverse_temperature = p.temperature < kTemperatureMin ? 0 : 1 / p.temperature,
          .presence_penalty = p.presence_penalty,
          .frequency_penalty = p.frequency_penalty,
          .repetition_penalty = p.repetition_penalty,
          .bias = p.logit_bias.empty() ? 0 : 1,
          .masks_ends = generated < p.min_tokens ? 1 : 0,
          .penalises = penalises(p) ? 1 : 0};
}

DrawRow score_row(const GenerateRequest& request, int32_t position) {
  return {.score = request.prompt[static_cast<size_t>(position)], .logprobs = request.params.prompt_logprobs};
}

SlotStartOf::SlotStartOf(const GenerateRequest& request, int32_t slot, std::span<const TokenId> generated,
                         int64_t vocab)
    : needed_(penalises(request.params) || !request.params.logit_bias.empty() ||
              request.params.min_tokens > 0) {
  const SamplingParams& p = request.params;
  if (p.min_tokens > 0) end_tokens_ = end_tokens(p, vocab);
  start_ = {.slot = slot,
            .penalises = penalises(p),
            .prompt = request.prompt,
            .generated = generated,
            .biases = p.logit_bias,
            .end_tokens = end_tokens_};
}

}  // namespace gantry

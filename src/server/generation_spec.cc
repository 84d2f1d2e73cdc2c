#include "server/generation_spec.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/limits.h"

namespace gantry {
namespace {

Status check_prompts(const GenerationSpec& spec, const std::string& param) {
  const ReplicaInfo& info = spec.model->info;
  for (const PromptInput& prompt : spec.prompts) {
    if (prompt.ids.empty()) return invalid_argument("the prompt is empty", param);
    if (prompt.ids.size() >= static_cast<size_t>(info.max_model_len)) {
      return invalid_argument(
          fmt::format("the prompt has {} tokens, the model's context holds {} with the answer",
                      prompt.ids.size(), info.max_model_len),
          param);
    }
    for (const TokenId id : prompt.ids) {
      if (id < 0 || id >= info.vocab_size) {
        return invalid_argument(
            fmt::format("the prompt has token id {}, must be between 0 and {}", id, info.vocab_size - 1),
            param);
      }
    }
  }
  return {};
}

// What one request can make the server hold.
Status check_cost(const GenerationSpec& spec, const SpecNames& names) {
  const SamplingParams& params = spec.params;
  const int64_t tokens =
      static_cast<int64_t>(spec.prompts.size()) * params.n * std::max(1, params.max_tokens);
  if (tokens > limits::kGeneratedTokensMax) {
    return invalid_argument(fmt::format("prompts x n x {} is {}, at most {} tokens can be asked for at once",
                                        names.max_tokens, tokens, limits::kGeneratedTokensMax),
                            params.n > 1 ? "n" : names.max_tokens);
  }
  int64_t entries = params.logprobs < 0 ? 0 : tokens * (1 + params.logprobs);
  if (params.prompt_logprobs >= 0) {
    for (const PromptInput& prompt : spec.prompts) {
      entries += static_cast<int64_t>(prompt.ids.size()) * params.n * (1 + params.prompt_logprobs);
    }
  }
  if (entries > limits::kLogprobEntriesMax) {
    return invalid_argument(
        fmt::format("the request asks for up to {} logprobs, at most {} are allowed: lower n, {} or {}",
                    entries, limits::kLogprobEntriesMax, names.max_tokens, names.logprobs),
        names.logprobs);
  }
  return {};
}

}  // namespace

Status complete_spec(GenerationSpec& spec, int32_t max_tokens_unset, const SpecNames& names) {
  GANTRY_RETURN_IF_ERROR(check_prompts(spec, names.prompt));
  size_t longest = 0;
  for (const PromptInput& prompt : spec.prompts) longest = std::max(longest, prompt.ids.size());
  const int32_t room = spec.model->info.max_model_len - static_cast<int32_t>(longest);
  SamplingParams& params = spec.params;
  if (!spec.max_tokens_given) {
    params.max_tokens = max_tokens_unset == 0 ? room : std::min(max_tokens_unset, room);
    params.max_tokens = std::max(params.max_tokens, std::min(params.min_tokens, room));
  } else if (params.max_tokens > room) {
    return invalid_argument(
        fmt::format("{} is {}, the context of {} tokens leaves {} after a prompt of {}", names.max_tokens,
                    params.max_tokens, spec.model->info.max_model_len, room, longest),
        names.max_tokens);
  }
  GANTRY_RETURN_IF_ERROR(check_cost(spec, names));
  return validate(params, spec.model->info.vocab_size);
}

}  // namespace gantry

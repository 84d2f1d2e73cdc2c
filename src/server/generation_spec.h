// One generation as a route asks for it: typed, validated, tokenised.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "protocol/sampling_params.h"
#include "server/model_registry.h"

namespace gantry {

struct PromptInput {
  std::vector<TokenId> ids;
  std::string text;              // what echo gives back
  bool opens_reasoning = false;  // ends inside a <think> of the chat template
};

struct GenerationSpec {
  std::shared_ptr<const LoadedModel> model;
  std::string model_name;            // as the client wrote it: answers repeat it
  std::vector<PromptInput> prompts;  // 1 .. limits::kPromptsPerRequestMax; n choices each
  SamplingParams params;             // max_tokens: what the client set, or 0
  bool max_tokens_given = false;
  std::vector<std::string> stops;
  bool stream = false;
  bool include_usage = false;  // a last chunk with the usage
  bool return_token_ids = false;
  bool echo = false;
  bool split_reasoning = false;      // <think> ... </think> is not content
  bool starts_in_reasoning = false;  // the prompt ends inside <think>
  bool include_reasoning = true;
  std::string cache_salt;
  std::string tenant;  // "user", or the API key where the server asks for one
  int32_t priority = 0;
  int64_t deadline_ns = 0;  // monotonic; 0 is none
  int64_t arrival_ns = 0;
};

// How the route names what complete_spec() may find wrong.
struct SpecNames {
  std::string prompt;
  std::string max_tokens;
  std::string logprobs;
};

// Sets max_tokens (`max_tokens_unset` where the client gave none, at most what the context leaves; 0 is all
// of that) and checks what needs the prompts: their lengths, ids, the cost n x max_tokens, and protocol/'s
// validate().
Status complete_spec(GenerationSpec& spec, int32_t max_tokens_unset, const SpecNames& names);

}  // namespace gantry

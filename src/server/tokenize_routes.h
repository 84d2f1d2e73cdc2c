// POST /tokenize and /detokenize, as vllm has them.
#pragma once

#include <string>

#include "server/json_reader.h"
#include "server/model_registry.h"

namespace gantry {

// {model, prompt, add_special_tokens} or {model, messages, add_generation_prompt}, return_token_strs
// → {count, max_model_len, tokens, token_strs}.
Result<std::string> tokenize(const Json& body, const ModelRegistry& registry);
// {model, tokens} → {prompt}.
Result<std::string> detokenize(const Json& body, const ModelRegistry& registry);

}  // namespace gantry

// The parameters that /v1/chat/completions and /v1/completions share.
#pragma once

#include "server/generation_spec.h"
#include "server/request_fields.h"

namespace gantry {

// Reads stream, stream_options, n, temperature, top_p, top_k, min_p, the penalties, seed, stop,
// stop_token_ids, logit_bias, min_tokens, ignore_eos, return_token_ids, cache_salt or prompt_cache_key,
// priority and user, and refuses by name what is known and not supported. spec.model is set: what the client
// leaves out comes from its defaults. Errors stay in `fields`.
void read_shared_fields(RequestFields& fields, GenerationSpec& spec);

// max_tokens under its name, or max_completion_tokens. low: 0 where the prompt alone may be asked for.
void read_max_tokens(RequestFields& fields, std::string_view name, int32_t low, GenerationSpec& spec);

// A list of token ids in [0, 2^31). Returns false after fields.fail().
bool read_token_ids(RequestFields& fields, std::string_view name, const Json& list,
                    std::vector<TokenId>& ids);

}  // namespace gantry

// POST /v1/completions: the body as a GenerationSpec.
#pragma once

#include "server/generation_spec.h"
#include "server/request_fields.h"

namespace gantry {

// max_tokens of a completion that does not say.
inline constexpr int32_t kCompletionTokensDefault = 16;

// The text as the caller's whole prompt: control tokens count, and BOS is added where the checkpoint does so.
Result<PromptInput> encode_text(const LoadedModel& model, const std::string& text, bool add_special_tokens);

// Parses, validates and tokenises: not for an I/O thread.
Result<GenerationSpec> read_completion_request(const Json& body, const ModelRegistry& registry);

}  // namespace gantry

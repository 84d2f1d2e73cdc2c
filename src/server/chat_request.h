// POST /v1/chat/completions: the body as a GenerationSpec.
#pragma once

#include "server/generation_spec.h"
#include "server/request_fields.h"

namespace gantry {

// The conversation as the template takes it: roles checked, text parts joined by line breaks, "developer" as
// "system". Errors stay in `fields`.
Json read_messages(RequestFields& fields);

// The prompt of a conversation. param() is "messages" for what the template itself refuses.
Result<PromptInput> render_chat(const LoadedModel& model, Json messages, Json template_kwargs,
                                bool add_generation_prompt);

// Parses, validates, renders and tokenises: not for an I/O thread.
Result<GenerationSpec> read_chat_request(const Json& body, const ModelRegistry& registry);

}  // namespace gantry

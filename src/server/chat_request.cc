#include "server/chat_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/clock.h"
#include "base/limits.h"
#include "chat/reasoning_parser.h"
#include "server/sampling_fields.h"

namespace gantry {
namespace {

constexpr size_t kTextMax = limits::kHttpBodyBytesMax;  // the body bounds it
constexpr size_t kKwargBytesMax = 1024;

constexpr std::array<std::string_view, 5> kTemplateKwargs = {
    "enable_thinking", "thinking", "reasoning_effort", "date_string", "preserve_thinking"};

// Text, or a list of {"type": "text", "text": ...} joined by line breaks.
void read_content(RequestFields& message, Json& out) {
  const Json* content = message.get("content");
  if (content == nullptr) return;
  if (content->is_string()) {
    out["content"] = *content;
    return;
  }
  if (!content->is_array()) {
    return message.fail("content",
                        fmt::format("must be a string or a list of parts, not {}", json_kind(*content)));
  }
  std::string text;
  for (size_t i = 0; i < content->size(); ++i) {
    const Json& part = (*content)[i];
    const std::string name = fmt::format("content[{}]", i);
    if (!part.is_object())
      return message.fail(name, fmt::format("must be an object, not {}", json_kind(part)));
    RequestFields fields(part);
    std::string type;
    std::string piece;
    fields.string("type", 100, type);
    if (type != "text") return message.fail(name, "has a type that is not supported: only text parts are");
    const bool has_text = fields.string("text", kTextMax, piece);
    if (Status status = fields.finish(); !status.ok())
      return message.fail(name, "is invalid: " + status.message());
    if (!has_text) return message.fail(name, "has no text");
    if (i > 0) text += '\n';
    text += piece;
  }
  out["content"] = std::move(text);
}

// What SDKs send back inside an assistant's message although it is empty.
void refuse_message_fields(RequestFields& message) {
  message.refuse("tool_calls", "tool calls are not available", Json::array());
  message.refuse("function_call", "tool calls are not available");
  message.refuse("refusal", "messages are text");
  message.refuse("audio", "messages are text");
  message.refuse("annotations", "messages are text", Json::array());
}

Json read_message(const Json& item, size_t index, RequestFields& fields) {
  Json out = Json::object();
  const std::string where = fmt::format("messages[{}]", index);
  if (!item.is_object()) {
    fields.fail(invalid_argument(fmt::format("{} must be an object, not {}", where, json_kind(item)), where));
    return out;
  }
  RequestFields message(item, where + ".");
  std::string role;
  message.string("role", 100, role);
  static constexpr std::array<std::string_view, 5> kRoles = {"system", "developer", "user", "assistant",
                                                             "tool"};
  if (message.ok() && std::find(kRoles.begin(), kRoles.end(), role) == kRoles.end()) {
    message.fail("role", "must be system, developer, user, assistant or tool");
  }
  out["role"] = role == "developer" ? "system" : role;
  read_content(message, out);
  for (const char* name : {"name", "tool_call_id"}) {
    std::string text;
    if (message.string(name, kKwargBytesMax, text)) out[name] = std::move(text);
  }
  for (const char* name : {"reasoning_content", "reasoning"}) {
    std::string text;
    if (message.string(name, kTextMax, text)) out["reasoning_content"] = std::move(text);
  }
  refuse_message_fields(message);
  if (message.ok() && !out.contains("content")) {
    if (role == "assistant" && out.contains("reasoning_content")) {
      out["content"] = "";
    } else {
      message.fail("content", "is missing");
    }
  }
  if (Status status = message.finish(); !status.ok()) fields.fail(std::move(status));
  return out;
}

Json read_template_kwargs(RequestFields& fields) {
  Json out = Json::object();
  const Json* kwargs = fields.get("chat_template_kwargs");
  if (kwargs == nullptr) return out;
  if (!kwargs->is_object()) {
    fields.fail("chat_template_kwargs", "must be an object");
    return out;
  }
  for (const auto& [key, value] : kwargs->items()) {
    if (std::find(kTemplateKwargs.begin(), kTemplateKwargs.end(), key) == kTemplateKwargs.end()) {
      fields.fail("chat_template_kwargs", fmt::format("has the key '{}', only {} are allowed",
                                                      key.substr(0, 100), fmt::join(kTemplateKwargs, ", ")));
      return out;
    }
    const bool short_text = value.is_string() && value.get_ref<const std::string&>().size() <= kKwargBytesMax;
    if (!value.is_boolean() && !value.is_number() && !short_text) {
      fields.fail("chat_template_kwargs", "must hold booleans, numbers and short strings");
      return out;
    }
    out[key] = value;
  }
  return out;
}

void read_logprobs(RequestFields& fields, SamplingParams& params) {
  bool logprobs = false;
  int32_t top = 0;
  fields.boolean("logprobs", logprobs);
  if (fields.integer("top_logprobs", 0, limits::kTopLogprobsMax, top) && !logprobs && top > 0) {
    fields.fail("top_logprobs", "needs logprobs to be true");
  }
  if (logprobs) params.logprobs = top;
}

std::string control_token(const Tokenizer& tokenizer, std::optional<TokenId> id) {
  return id ? std::string(tokenizer.bytes(*id)) : std::string();
}

}  // namespace

Json read_messages(RequestFields& fields) {
  Json out = Json::array();
  const Json* messages = fields.get("messages");
  if (messages == nullptr) {
    fields.fail("messages", "is missing");
    return out;
  }
  if (!messages->is_array() || messages->empty()) {
    fields.fail("messages", "must be a list of at least one message");
    return out;
  }
  if (messages->size() > limits::kMessagesMax) {
    fields.fail("messages", fmt::format("has {} entries, at most {} are allowed", messages->size(),
                                        limits::kMessagesMax));
    return out;
  }
  for (size_t i = 0; i < messages->size() && fields.ok(); ++i)
    out.push_back(read_message((*messages)[i], i, fields));
  return out;
}

Result<PromptInput> render_chat(const LoadedModel& model, Json messages, Json template_kwargs,
                                bool add_generation_prompt) {
  const Tokenizer* tokenizer = model.served.tokenizer;
  if (tokenizer == nullptr) {
    return invalid_argument("this model has no tokenizer: send token ids to /v1/completions", "messages");
  }
  if (model.served.chat_template == nullptr) {
    return invalid_argument("this model has no chat template: use /v1/completions", "messages");
  }
  ChatTemplateInput input;
  input.messages = std::move(messages);
  input.kwargs = std::move(template_kwargs);
  input.add_generation_prompt = add_generation_prompt;
  const VocabSpec& vocabulary = tokenizer->spec();
  input.bos_token = control_token(*tokenizer, vocabulary.bos);
  input.eos_token = vocabulary.eos.empty() ? "" : control_token(*tokenizer, vocabulary.eos.front());
  input.now_unix_seconds = unix_seconds();
  Result<std::vector<PromptPiece>> pieces = model.served.chat_template->render_pieces(input);
  if (!pieces.ok())
    return invalid_argument("the chat template refused: " + pieces.status().message(), "messages");
  PromptInput prompt;
  for (const PromptPiece& piece : *pieces) prompt.text += piece.text;
  prompt.opens_reasoning = prompt_opens_reasoning(*pieces);
  if (model.encoder->tokens_min(prompt.text.size()) >= static_cast<size_t>(model.info.max_model_len)) {
    return invalid_argument(fmt::format("the prompt of {} bytes is longer than the context of {} tokens",
                                        prompt.text.size(), model.info.max_model_len),
                            "messages");
  }
  Result<std::vector<TokenId>> ids = model.encoder->encode(*pieces);
  if (!ids.ok()) return invalid_argument(ids.status().message(), "messages");
  prompt.ids = std::move(ids).value();
  return prompt;
}

Result<GenerationSpec> read_chat_request(const Json& body, const ModelRegistry& registry) {
  RequestFields fields(body);
  GenerationSpec spec;
  fields.string("model", 1024, spec.model_name);
  if (!fields.ok()) return fields.finish();
  GANTRY_ASSIGN_OR_RETURN(spec.model, registry.find(spec.model_name));
  if (spec.model_name.empty()) spec.model_name = spec.model->served.id;

  Json messages = read_messages(fields);
  read_shared_fields(fields, spec);
  read_logprobs(fields, spec.params);
  read_max_tokens(fields, "max_tokens", 1, spec);
  const bool old_name = spec.max_tokens_given;
  read_max_tokens(fields, "max_completion_tokens", 1, spec);
  fields.boolean("include_reasoning", spec.include_reasoning);
  fields.refuse("echo", "use /v1/completions", false);
  fields.refuse("suffix", "use /v1/completions");
  Json kwargs = read_template_kwargs(fields);
  GANTRY_RETURN_IF_ERROR(fields.finish());

  GANTRY_ASSIGN_OR_RETURN(PromptInput prompt,
                          render_chat(*spec.model, std::move(messages), std::move(kwargs), true));
  spec.starts_in_reasoning = prompt.opens_reasoning;
  spec.split_reasoning = spec.model->reasoning || spec.starts_in_reasoning;
  prompt.text.clear();
  spec.prompts.push_back(std::move(prompt));
  const SpecNames names{.prompt = "messages",
                        .max_tokens = body.contains("max_completion_tokens") || !old_name
                                          ? "max_completion_tokens"
                                          : "max_tokens",
                        .logprobs = "top_logprobs"};
  GANTRY_RETURN_IF_ERROR(complete_spec(spec, 0, names));
  return spec;
}

}  // namespace gantry

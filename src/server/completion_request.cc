#include "server/completion_request.h"

#include <fmt/format.h>

#include "base/limits.h"
#include "server/sampling_fields.h"

namespace gantry {
namespace {

PromptInput from_ids(const LoadedModel& model, std::vector<TokenId> ids, bool with_text) {
  PromptInput prompt{.ids = std::move(ids), .text = {}};
  if (with_text && model.served.tokenizer != nullptr) {
    prompt.text = model.served.tokenizer->decode(prompt.ids, false);
  }
  return prompt;
}

// prompt: text, a list of texts, token ids, or a list of lists of token ids.
Status read_prompts(RequestFields& fields, GenerationSpec& spec) {
  const LoadedModel& model = *spec.model;
  const Json* value = fields.get("prompt");
  if (value == nullptr) return invalid_argument("prompt is missing", "prompt");
  const auto add_text = [&](const std::string& text) -> Status {
    GANTRY_ASSIGN_OR_RETURN(PromptInput prompt, encode_text(model, text, true));
    spec.prompts.push_back(std::move(prompt));
    return {};
  };
  const auto add_ids = [&](const Json& list) {
    std::vector<TokenId> ids;
    if (read_token_ids(fields, "prompt", list, ids))
      spec.prompts.push_back(from_ids(model, std::move(ids), spec.echo));
  };
  if (value->is_string()) return add_text(value->get_ref<const std::string&>());
  if (!value->is_array() || value->empty()) {
    return invalid_argument(
        "prompt must be a text, a list of texts, token ids, or lists of token ids, and not empty", "prompt");
  }
  if (value->front().is_number()) {
    add_ids(*value);
    return {};
  }
  if (value->size() > limits::kPromptsPerRequestMax) {
    return invalid_argument(fmt::format("prompt has {} entries, at most {} are allowed", value->size(),
                                        limits::kPromptsPerRequestMax),
                            "prompt");
  }
  const auto kind = value->front().type();
  for (const Json& item : *value) {
    if (item.type() != kind || (!item.is_string() && !item.is_array())) {
      return invalid_argument("prompt must hold texts, or token ids, or lists of token ids, all of one kind",
                              "prompt");
    }
    if (item.is_string()) {
      GANTRY_RETURN_IF_ERROR(add_text(item.get_ref<const std::string&>()));
    } else {
      add_ids(item);
    }
  }
  return {};
}

void read_logprobs(RequestFields& fields, GenerationSpec& spec) {
  int32_t count = 0;
  if (!fields.integer("logprobs", 0, limits::kTopLogprobsMax, count)) return;
  spec.params.logprobs = count;
  if (spec.echo) spec.params.prompt_logprobs = count;
}

}  // namespace

Result<PromptInput> encode_text(const LoadedModel& model, const std::string& text, bool add_special_tokens) {
  if (model.served.tokenizer == nullptr) {
    return invalid_argument("this model has no tokenizer: give token ids", "prompt");
  }
  const Tokenizer& tokenizer = *model.served.tokenizer;
  Result<std::vector<TokenId>> ids = tokenizer.encode(
      text,
      {.specials = Tokenizer::Specials::kControl, .add_bos = add_special_tokens && tokenizer.spec().add_bos});
  if (!ids.ok()) return invalid_argument(ids.status().message(), "prompt");
  return PromptInput{.ids = std::move(ids).value(), .text = text};
}

Result<GenerationSpec> read_completion_request(const Json& body, const ModelRegistry& registry) {
  RequestFields fields(body);
  GenerationSpec spec;
  fields.string("model", 1024, spec.model_name);
  if (!fields.ok()) return fields.finish();
  GANTRY_ASSIGN_OR_RETURN(spec.model, registry.find(spec.model_name));
  if (spec.model_name.empty()) spec.model_name = spec.model->served.id;

  read_shared_fields(fields, spec);
  fields.boolean("echo", spec.echo);
  read_logprobs(fields, spec);
  read_max_tokens(fields, "max_tokens", spec.echo ? 0 : 1, spec);
  fields.refuse("suffix", "text is only continued, not filled in");
  fields.get("prompt");
  GANTRY_RETURN_IF_ERROR(fields.finish());

  if (const Json* prompt = fields.get("prompt"); prompt != nullptr && prompt->is_string()) {
    const size_t bytes = prompt->get_ref<const std::string&>().size();
    const auto context = static_cast<size_t>(spec.model->info.max_model_len);
    if (spec.model->encoder && spec.model->encoder->tokens_min(bytes) >= context) {
      return invalid_argument(
          fmt::format("the prompt of {} bytes is longer than the context of {} tokens", bytes, context),
          "prompt");
    }
  }
  GANTRY_RETURN_IF_ERROR(read_prompts(fields, spec));
  GANTRY_RETURN_IF_ERROR(fields.finish());
  // The engine computes a prompt alone only for its logprobs; they are not shown unless asked for.
  if (spec.max_tokens_given && spec.params.max_tokens == 0 && spec.params.prompt_logprobs < 0) {
    spec.params.prompt_logprobs = 0;
  }
  GANTRY_RETURN_IF_ERROR(
      complete_spec(spec, kCompletionTokensDefault,
                    {.prompt = "prompt", .max_tokens = "max_tokens", .logprobs = "logprobs"}));
  return spec;
}

}  // namespace gantry

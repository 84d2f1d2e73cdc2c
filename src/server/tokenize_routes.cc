#include "server/tokenize_routes.h"

#include "server/chat_request.h"
#include "server/completion_request.h"
#include "server/json_writer.h"
#include "server/reply.h"
#include "server/sampling_fields.h"

namespace gantry {
namespace {

Result<std::shared_ptr<const LoadedModel>> read_model(RequestFields& fields, const ModelRegistry& registry) {
  std::string name;
  fields.string("model", 1024, name);
  if (!fields.ok()) return fields.finish();
  GANTRY_ASSIGN_OR_RETURN(auto model, registry.find(name));
  if (model->served.tokenizer == nullptr) return invalid_argument("this model has no tokenizer", "model");
  return model;
}

}  // namespace

Result<std::string> tokenize(const Json& body, const ModelRegistry& registry) {
  RequestFields fields(body);
  GANTRY_ASSIGN_OR_RETURN(const auto model, read_model(fields, registry));
  const bool chat = body.contains("messages") && !body.contains("prompt");
  bool add_special = true;
  bool generation_prompt = true;
  bool strings = false;
  Json messages;
  fields.boolean("return_token_strs", strings);
  if (chat) {
    messages = read_messages(fields);
    fields.boolean("add_generation_prompt", generation_prompt);
  } else {
    fields.boolean("add_special_tokens", add_special);
    const Json* prompt = fields.get("prompt");
    if (prompt == nullptr || !prompt->is_string()) fields.fail("prompt", "must be a text");
  }
  GANTRY_RETURN_IF_ERROR(fields.finish());
  PromptInput prompt;
  if (chat) {
    GANTRY_ASSIGN_OR_RETURN(prompt,
                            render_chat(*model, std::move(messages), Json::object(), generation_prompt));
  } else {
    GANTRY_ASSIGN_OR_RETURN(prompt,
                            encode_text(*model, body["prompt"].get_ref<const std::string&>(), add_special));
  }
  std::string out;
  JsonWriter json(out);
  json.object().key("count").value(prompt.ids.size()).key("max_model_len").value(model->info.max_model_len);
  json.key("tokens");
  write_token_ids(json, prompt.ids);
  json.key("token_strs");
  if (strings) {
    json.array();
    for (const TokenId id : prompt.ids) json.value(token_text(model->served.tokenizer, id));
    json.end_array();
  } else {
    json.null();
  }
  json.end_object();
  return out;
}

Result<std::string> detokenize(const Json& body, const ModelRegistry& registry) {
  RequestFields fields(body);
  GANTRY_ASSIGN_OR_RETURN(const auto model, read_model(fields, registry));
  std::vector<TokenId> ids;
  const Json* tokens = fields.get("tokens");
  if (tokens == nullptr || !tokens->is_array()) {
    fields.fail("tokens", "must be a list of token ids");
  } else {
    read_token_ids(fields, "tokens", *tokens, ids);
  }
  GANTRY_RETURN_IF_ERROR(fields.finish());
  for (const TokenId id : ids) {
    if (id >= model->info.vocab_size) {
      return invalid_argument("tokens has an id that is not below the vocabulary's size", "tokens");
    }
  }
  std::string out;
  JsonWriter(out).object().key("prompt").value(model->served.tokenizer->decode(ids, false)).end_object();
  return out;
}

}  // namespace gantry

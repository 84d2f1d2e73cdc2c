#include "chat/chat_template.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/limits.h"
#include "chat/jinja_error.h"
#include "chat/jinja_interpreter.h"
#include "chat/jinja_parser.h"
#include "chat/jinja_unicode.h"

namespace gantry {
namespace {

using Json = nlohmann::ordered_json;
using jinja::Int;
using jinja::Text;
using jinja::Value;

// Role names that a template may put between "<|" and "|>". The words are harmless, and the control token
// that they complete ("<|user|>") is the template's.
constexpr std::array<std::string_view, 8> kRoles = {"system",    "user",     "assistant", "tool",
                                                    "developer", "function", "ipython",   "model"};

Value from_json(const Json& json, int depth) {
  if (depth > limits::kTemplateDepthMax) {
    jinja::exhaust("the messages, tools or kwargs are nested deeper than " +
                   std::to_string(limits::kTemplateDepthMax));
  }
  switch (json.type()) {
    case Json::value_t::boolean:
      return Value::boolean(json.get<bool>());
    case Json::value_t::number_integer:
      return Value::integer(json.get<int64_t>());
    case Json::value_t::number_unsigned:
      return Value::integer(static_cast<Int>(json.get<uint64_t>()));
    case Json::value_t::number_float:
      return Value::number(json.get<double>());
    case Json::value_t::string:
      return Value::string(Text(json.get_ref<const std::string&>(), false));
    case Json::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const Json& item : json) items.push_back(from_json(item, depth + 1));
      return Value::list(std::move(items));
    }
    case Json::value_t::object: {
      const auto dict = std::make_shared<jinja::Dict>();
      for (const auto& [key, item] : json.items()) {
        dict->set(Value::string(Text(key, false)), from_json(item, depth + 1));
      }
      return std::shared_ptr<const jinja::Dict>(dict);
    }
    default:
      return Value();
  }
}

// The messages, with the role of each as the template's text if it is a known one.
Value from_messages(const Json& messages) {
  if (!messages.is_array()) return from_json(messages, 0);
  std::vector<Value> items;
  items.reserve(messages.size());
  for (const Json& message : messages) {
    Value item = from_json(message, 1);
    if (message.is_object() && message.contains("role") && message["role"].is_string()) {
      const std::string& role = message["role"].get_ref<const std::string&>();
      if (std::find(kRoles.begin(), kRoles.end(), role) != kRoles.end()) {
        const auto dict = std::make_shared<jinja::Dict>(*item.dict());
        dict->set(Value::literal("role"), Value::literal(role));
        item = std::shared_ptr<const jinja::Dict>(dict);
      }
    }
    items.push_back(std::move(item));
  }
  return Value::list(std::move(items));
}

std::vector<std::pair<std::string, Value>> variables_of(const ChatTemplateInput& input) {
  std::vector<std::pair<std::string, Value>> variables;
  variables.emplace_back("messages", from_messages(input.messages));
  variables.emplace_back("tools", from_json(input.tools, 0));
  variables.emplace_back("documents", Value());
  variables.emplace_back("add_generation_prompt", Value::boolean(input.add_generation_prompt));
  variables.emplace_back("bos_token", Value::literal(input.bos_token));
  variables.emplace_back("eos_token", Value::literal(input.eos_token));
  if (input.kwargs.is_object()) {
    for (const auto& [name, value] : input.kwargs.items()) variables.emplace_back(name, from_json(value, 0));
  }
  return variables;
}

}  // namespace

struct ChatTemplate::Impl {
  std::unique_ptr<jinja::Ast> ast;

  Result<Text> render(const ChatTemplateInput& input) const {
    try {
      return jinja::Interpreter(*ast, variables_of(input), input.now_unix_seconds).run();
    } catch (const jinja::Failure& failure) {
      return failure.status;
    }
  }
};

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::~ChatTemplate() = default;

Result<std::unique_ptr<ChatTemplate>> ChatTemplate::parse(std::string source) {
  if (source.size() > limits::kTemplateBytesMax) {
    return resource_exhausted("the chat template has " + std::to_string(source.size()) +
                              " bytes; the limit is " + std::to_string(limits::kTemplateBytesMax));
  }
  if (!jinja::unicode::is_valid_utf8(source)) return invalid_argument("the chat template is not UTF-8");
  try {
    auto impl = std::make_unique<Impl>();
    impl->ast = jinja::parse_template(source);
    return std::unique_ptr<ChatTemplate>(new ChatTemplate(std::move(impl)));
  } catch (const jinja::Failure& failure) {
    return failure.status;
  }
}

Result<std::string> ChatTemplate::render(const ChatTemplateInput& input) const {
  GANTRY_ASSIGN_OR_RETURN(const Text text, impl_->render(input));
  return text.bytes();
}

Result<std::vector<PromptPiece>> ChatTemplate::render_pieces(const ChatTemplateInput& input) const {
  GANTRY_ASSIGN_OR_RETURN(const Text text, impl_->render(input));
  std::vector<PromptPiece> pieces;
  size_t begin = 0;
  for (const Text::Run& run : text.runs()) {
    pieces.push_back({text.bytes().substr(begin, run.end - begin), run.from_template});
    begin = run.end;
  }
  return pieces;
}

bool ChatTemplate::uses(std::string_view variable) const {
  const auto it = impl_->ast->name_ids.find(std::string(variable));
  return it != impl_->ast->name_ids.end() && impl_->ast->read[static_cast<size_t>(it->second)];
}

}  // namespace gantry

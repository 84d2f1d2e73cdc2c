// Short forms for tests of the template language.
#pragma once

#include <string>

#include "chat/chat_template.h"

namespace gantry {

// The text of `source` with the variables of a JSON object; "error: ..." if it fails to parse or to render.
inline std::string render(const std::string& source, const std::string& variables = "{}") {
  const auto parsed = ChatTemplate::parse(source);
  if (!parsed.ok()) return "error: " + parsed.status().message();
  ChatTemplateInput input;
  input.messages = nlohmann::ordered_json::array();
  input.kwargs = nlohmann::ordered_json::parse(variables);
  const auto text = (*parsed)->render(input);
  return text.ok() ? *text : "error: " + text.status().message();
}

// The text of the expression.
inline std::string eval(const std::string& expression, const std::string& variables = "{}") {
  return render("{{ " + expression + " }}", variables);
}

// The code that parsing or rendering ends with.
inline StatusCode status_code(const std::string& source, const std::string& variables = "{}") {
  const auto parsed = ChatTemplate::parse(source);
  if (!parsed.ok()) return parsed.status().code();
  ChatTemplateInput input;
  input.messages = nlohmann::ordered_json::array();
  input.kwargs = nlohmann::ordered_json::parse(variables);
  return (*parsed)->render(input).status().code();
}

}  // namespace gantry

// The JSON form of a template's input and of its error, which compare.py writes.
#pragma once

#include <nlohmann/json.hpp>

#include "chat/chat_template.h"

namespace gantry {

inline ChatTemplateInput template_input(const nlohmann::ordered_json& json) {
  ChatTemplateInput input;
  input.messages = json.value("messages", nlohmann::ordered_json::array());
  input.tools = json.value("tools", nlohmann::ordered_json());
  input.kwargs = json.value("kwargs", nlohmann::ordered_json());
  input.add_generation_prompt = json.value("add_generation_prompt", true);
  input.bos_token = json.value("bos_token", "");
  input.eos_token = json.value("eos_token", "");
  input.now_unix_seconds = json.value("now", int64_t{0});
  return input;
}

inline nlohmann::ordered_json error_json(const Status& status) {
  return {{"error", status.message()}, {"code", to_string(status.code())}};
}

}  // namespace gantry

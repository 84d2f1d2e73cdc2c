// json.dumps of template values, as the tojson filter calls it.
#pragma once

#include <optional>
#include <string>

#include "chat/jinja_value.h"

namespace gantry::jinja {

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent;  // one level; line breaks only where it is set
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};

// Failure for a value that JSON does not have. The size is bounded by the value's weight and the indent.
Text to_json(const Value& value, const JsonStyle& style);

}  // namespace gantry::jinja

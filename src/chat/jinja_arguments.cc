#include <algorithm>

#include "chat/jinja_error.h"
#include "chat/jinja_library.h"

namespace gantry::jinja {

const Value& missing_argument() {
  static const Value missing = Value::undefined("an argument that was left out");
  return missing;
}

bool is_given(const Value& value) { return !value.same_as(missing_argument()); }

std::vector<Value> Arguments::bind(std::string_view function, const std::vector<std::string_view>& names,
                                   size_t required) const {
  const std::string called = std::string(function) + "()";
  if (positional.size() > names.size()) {
    fail(called + " takes at most " + std::to_string(names.size()) + " argument(s) (" +
         std::to_string(positional.size()) + " given)");
  }
  std::vector<Value> values(names.size(), missing_argument());
  std::copy(positional.begin(), positional.end(), values.begin());
  for (const auto& [name, value] : named) {
    const auto it = std::find(names.begin(), names.end(), name);
    if (it == names.end()) fail(called + " got an unexpected keyword argument '" + name + "'");
    Value& slot = values[static_cast<size_t>(it - names.begin())];
    if (is_given(slot)) fail(called + " got multiple values for argument '" + name + "'");
    slot = value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (!is_given(values[i])) {
      fail(called + " missing 1 required positional argument: '" + std::string(names[i]) + "'");
    }
  }
  return values;
}

}  // namespace gantry::jinja

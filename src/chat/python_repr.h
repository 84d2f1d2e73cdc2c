// Values as Python prints them: str() and repr().
#pragma once

#include <string>
#include <string_view>

#include "chat/jinja_value.h"

namespace gantry::jinja {

std::string int_repr(Int value);
// The shortest digits that read back as the same double: 1.0, 0.1, 1e+16, inf, nan.
std::string float_repr(double value);
std::string string_repr(std::string_view text);

// str(value). A string is itself, with its origins; the text of a container is the caller's as soon as it
// holds a string of the caller's.
Text to_text(const Value& value);
Text repr(const Value& value);

}  // namespace gantry::jinja

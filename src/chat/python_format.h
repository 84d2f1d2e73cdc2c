// Python's two string formatters, and numbers to text and back.
#pragma once

#include <optional>
#include <string>

#include "chat/jinja_interpreter.h"

namespace gantry::jinja {

// format % arguments: a tuple is the list of arguments, a dict serves "%(name)s".
Text format_percent(Interpreter& interpreter, const Value& format, const Value& arguments);
// str.format(*arguments): "{}", "{0}", "{name.key[0]!r:>10.3f}".
Text format_braces(Interpreter& interpreter, const Value& format, const Arguments& arguments);

// int(text, base) and float(text) of Python; nothing if they would raise.
std::optional<Int> parse_int(std::string_view text, int base);
std::optional<double> parse_float(std::string_view text);
// round(value, digits): half to even, of the exact binary value.
double round_half_even(double value, int digits);
// int(value) of a finite float in range; Failure otherwise.
Int truncate_to_int(double value);

}  // namespace gantry::jinja

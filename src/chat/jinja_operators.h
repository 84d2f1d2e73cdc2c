// Python's operators on template values. All charge the interpreter for what they build or visit, and fail
// with Python's messages.
#pragma once

#include "chat/jinja_ast.h"
#include "chat/jinja_interpreter.h"

namespace gantry::jinja {

Value binary(Interpreter& interpreter, Operator op, const Value& a, const Value& b);
Value negate(const Value& a);
Value positive(const Value& a);
bool compare(Interpreter& interpreter, Operator op, const Value& a, const Value& b);
bool equals(Interpreter& interpreter, const Value& a, const Value& b);
// a < b, for sorting and min/max.
bool less(Interpreter& interpreter, const Value& a, const Value& b);
// item in container
bool contains(Interpreter& interpreter, const Value& container, const Value& item);
// HTML-escaped, as markupsafe.escape does; markup stays as it is.
Text escape_html(const Value& value);

// Byte offset of `needle` in `text` from `from` on, or npos. Linear time.
size_t find_bytes(std::string_view text, std::string_view needle, size_t from);
// The last one.
size_t find_last_bytes(std::string_view text, std::string_view needle);

}  // namespace gantry::jinja

// The filters in groups; jinja_filters.cc looks a name up among them.
#pragma once

#include <string_view>
#include <unordered_map>

#include "chat/jinja_interpreter.h"

namespace gantry::jinja {

using Filter = Value (*)(Interpreter&, const Value&, const Arguments&);
using FilterTable = std::unordered_map<std::string_view, Filter>;

const FilterTable& text_filters();
const FilterTable& number_filters();
const FilterTable& sequence_filters();
// map, select, reject and the like, which run other filters and tests.
const FilterTable& selection_filters();

// str(value) without losing what a string carries: jinja2's soft_str.
Value soft_string(Interpreter& interpreter, const Value& value);
// An item's sort key: lower case unless case_sensitive.
Value ignore_case(Interpreter& interpreter, const Value& value, bool case_sensitive);
Value make_generator(std::vector<Value> items);

}  // namespace gantry::jinja

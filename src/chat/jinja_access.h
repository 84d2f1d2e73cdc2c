// Attributes, subscripts, slices, iteration and length of template values, as the immutable sandbox allows
// them.
#pragma once

#include "chat/jinja_interpreter.h"

namespace gantry::jinja {

// object.name: a method comes before a key. `name` is a string.
Value get_attribute(Interpreter& interpreter, const Value& object, const Value& name);
// object[key]: a key or index comes before a method.
Value get_item(Interpreter& interpreter, const Value& object, const Value& key);
// object[start:stop:step]; none stands for a bound that is left out.
Value get_slice(Interpreter& interpreter, const Value& object, const Value& start, const Value& stop,
                const Value& step);
// "a.b.0" one after the other, as the filters' attribute= does; an integer is one index.
Value get_path(Interpreter& interpreter, const Value& object, const Value& path);

// What a for loop visits. A list is itself; a generator gives the items that are left and is then empty.
std::shared_ptr<Sequence> iterate(Interpreter& interpreter, const Value& value);
bool is_iterable(const Value& value);
// len(value); Failure if it has none.
size_t length(const Value& value);
bool has_length(const Value& value);

// An integer argument as a machine integer, clamped to +-2^62.
int64_t to_index(const Value& value);

}  // namespace gantry::jinja

// The filters, tests and methods that templates can use, and what an interpreter offers to them.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "chat/jinja_value.h"

namespace gantry::jinja {

class Interpreter;

// The values of a call's arguments.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  // Places the arguments in the order of `names`; std::nullopt-like undefined values (is_given() false) for
  // what the caller left out. The first `required` must be given. Failure with Python's words if they do not
  // fit.
  std::vector<Value> bind(std::string_view function, const std::vector<std::string_view>& names,
                          size_t required) const;
};

// What bind() puts where an argument was left out.
const Value& missing_argument();
bool is_given(const Value& value);

enum class LibraryStatus { kSupported, kRefused, kUnknown };
LibraryStatus filter_status(std::string_view name);
LibraryStatus test_status(std::string_view name);

Value call_filter(Interpreter& interpreter, const std::string& name, const Value& value, Arguments arguments);
bool call_test(Interpreter& interpreter, const std::string& name, const Value& value,
               const Arguments& arguments);

enum class MethodStatus {
  kNone,     // no such attribute
  kMethod,   // can be called
  kMutates,  // refused, as the immutable sandbox does
};
// What `object.name` is as an attribute of Python's type.
MethodStatus method_status(const Value& object, std::string_view name);
Value call_method(Interpreter& interpreter, const Method& method, const Arguments& arguments);
Value call_string_method(Interpreter& interpreter, const Value& receiver, const std::string& name,
                         const Arguments& arguments);

}  // namespace gantry::jinja

// map, select, reject, selectattr, rejectattr: filters that run a filter or a test on each item.
#include "chat/jinja_access.h"
#include "chat/jinja_error.h"
#include "chat/jinja_filters.h"
#include "chat/python_repr.h"

namespace gantry::jinja {
namespace {

std::string name_of(const Value& value, const char* what) {
  if (!value.is_string()) fail("the name of a " + std::string(what) + " is no string");
  return std::string(value.view());
}

Value map(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  if (!value.truthy()) return make_generator({});
  Arguments rest = arguments;
  std::string filter;
  Value path;
  Value fallback;
  if (arguments.positional.empty()) {
    bool found = false;
    for (const auto& [name, item] : arguments.named) {
      if (name == "attribute") {
        path = item;
        found = true;
      } else if (name == "default") {
        fallback = item;
      }
    }
    if (!found) fail("map requires a filter argument");
    for (const auto& [name, item] : arguments.named) {
      if (name != "attribute" && name != "default") fail("Unexpected keyword argument " + string_repr(name));
    }
  } else {
    filter = name_of(arguments.positional[0], "filter");
    rest.positional.erase(rest.positional.begin());
  }
  std::vector<Value> out;
  const auto visited = iterate(interpreter, value);
  for (const Value& item : visited->items) {
    interpreter.charge(2);
    if (!filter.empty()) {
      out.push_back(call_filter(interpreter, filter, item, rest));
      continue;
    }
    Value found = get_path(interpreter, item, path);
    out.push_back(found.is_undefined() && !fallback.is_none() ? fallback : found);
  }
  return make_generator(std::move(out));
}

// Keeps the items whose test has the result `wanted`; without a test, their truth counts.
template <bool wanted, bool by_attribute>
Value select(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  if (!value.truthy()) return make_generator({});
  Arguments rest = arguments;
  Value path;
  if (by_attribute) {
    if (rest.positional.empty()) fail("Missing parameter for attribute name");
    path = rest.positional[0];
    rest.positional.erase(rest.positional.begin());
  }
  std::string test;
  if (!rest.positional.empty()) {
    test = name_of(rest.positional[0], "test");
    rest.positional.erase(rest.positional.begin());
  }
  std::vector<Value> out;
  const auto visited = iterate(interpreter, value);
  for (const Value& item : visited->items) {
    interpreter.charge(2);
    const Value subject = by_attribute ? get_path(interpreter, item, path) : item;
    const bool result = test.empty() ? subject.truthy() : call_test(interpreter, test, subject, rest);
    if (result == wanted) out.push_back(item);
  }
  return make_generator(std::move(out));
}

}  // namespace

const FilterTable& selection_filters() {
  static const FilterTable table = {
      {"map", map},
      {"select", select<true, false>},
      {"reject", select<false, false>},
      {"selectattr", select<true, true>},
      {"rejectattr", select<false, true>},
  };
  return table;
}

}  // namespace gantry::jinja

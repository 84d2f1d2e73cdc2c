// The interpreter's calls: macros, and the functions that every template has.
#include <algorithm>
#include <array>
#include <ctime>
#include <utility>

#include "chat/jinja_access.h"
#include "chat/jinja_error.h"
#include "chat/jinja_frame.h"
#include "chat/python_repr.h"

namespace gantry::jinja {

Value Interpreter::make_macro(const MacroNode& node, Scope& scope) {
  charge(16);
  for (Scope* s = &scope; s != nullptr && !s->captured; s = s->parent) s->captured = true;
  return std::shared_ptr<const Macro>(std::make_shared<Macro>(Macro{&node, &scope}));
}

Value Interpreter::call(const Value& callee, const Arguments& arguments) {
  switch (callee.kind()) {
    case Value::Kind::kUndefined:
      fail(callee.as_undefined().message);
    case Value::Kind::kMacro:
      return call_macro(*callee.macro(), arguments);
    case Value::Kind::kMethod:
      return call_method(*this, *callee.method(), arguments);
    case Value::Kind::kFunction:
      return call_function(callee.as_function(), arguments);
    case Value::Kind::kLoop:
      refuse("a recursive loop");
    default:
      fail("'" + std::string(callee.type_name()) + "' object is not callable");
  }
}

// jinja2.runtime.Macro.__call__: positional, then named, then defaults; what is left over goes to varargs,
// kwargs and caller if the macro uses them.
Value Interpreter::call_macro(const Macro& macro, const Arguments& arguments) {
  const Depth depth(*this);
  const MacroNode& node = *macro.node;
  Frame frame(*this, *macro.scope);
  Scope& scope = frame.scope();
  std::vector<std::pair<std::string, Value>> named = arguments.named;
  const auto take = [&](const std::string& name, Value& value) {
    charge(named.size() / 8);
    const auto it =
        std::find_if(named.begin(), named.end(), [&](const auto& entry) { return entry.first == name; });
    if (it == named.end()) return false;
    value = std::move(it->second);
    named.erase(it);
    return true;
  };
  std::vector<const Expr*> defaults(node.parameters.size(), nullptr);
  for (size_t i = 0; i < node.parameters.size(); ++i) {
    const auto& [id, fallback] = node.parameters[i];
    const std::string& name = ast_.names[static_cast<size_t>(id)];
    Value value;
    if (i < arguments.positional.size()) {
      value = arguments.positional[i];
    } else if (!take(name, value)) {
      value = Value::undefined("parameter " + string_repr(name) + " was not provided");
      defaults[i] = fallback;
    }
    scope.set(id, std::move(value));
  }
  if (node.uses_caller) {
    Value caller;
    if (!take("caller", caller)) caller = Value::undefined("No caller defined");
    scope.set(caller_id_, std::move(caller));
  }
  if (node.uses_kwargs) {
    const auto dict = std::make_shared<Dict>();
    // Names that a ** argument brought are the caller's.
    for (const auto& [name, value] : named) dict->set(Value::string(Text(name, false)), value);
    scope.set(kwargs_id_, std::shared_ptr<const Dict>(dict));
  } else if (!named.empty()) {
    Value caller;
    if (take("caller", caller)) {
      fail("macro " + string_repr(node.name) +
           " was invoked with two values for the special caller argument. This is most likely a bug.");
    }
    fail("macro " + string_repr(node.name) + " takes no keyword argument " + string_repr(named[0].first));
  }
  const size_t count = node.parameters.size();
  if (node.uses_varargs) {
    std::vector<Value> rest;
    for (size_t i = count; i < arguments.positional.size(); ++i) rest.push_back(arguments.positional[i]);
    scope.set(varargs_id_, Value::tuple(std::move(rest)));
  } else if (arguments.positional.size() > count) {
    fail("macro " + string_repr(node.name) + " takes not more than " + std::to_string(count) +
         " argument(s)");
  }
  for (size_t i = 0; i < defaults.size(); ++i) {
    if (defaults[i] != nullptr) scope.set(node.parameters[i].first, evaluate(*defaults[i], scope));
  }
  Text out;
  run_body(node.body, scope, out);
  return make_string(std::move(out));
}

Value Interpreter::call_function(Function function, const Arguments& arguments) {
  switch (function) {
    case Function::kRange:
      return make_range(arguments);
    case Function::kNamespace:
      return make_namespace(arguments);
    case Function::kStrftimeNow:
      return format_now(arguments);
    case Function::kRaiseException:
      fail(text_of(arguments.bind("raise_exception", {"message"}, 1)[0]).bytes());
    case Function::kDict:
      return make_dict(arguments);
  }
  return Value();
}

Value Interpreter::make_range(const Arguments& arguments) {
  constexpr Int kItemsMax = 100'000;  // jinja2.sandbox.MAX_RANGE
  const auto& given = arguments.positional;
  if (given.empty()) fail("range expected at least 1 argument, got 0");
  if (given.size() > 3) fail("range expected at most 3 arguments, got " + std::to_string(given.size()));
  if (!arguments.named.empty()) fail("range() takes no keyword arguments");
  for (const Value& value : given) {
    if (value.is_undefined()) fail(value.as_undefined().message);
    if (!value.is_integral()) {
      fail("'" + std::string(value.type_name()) + "' object cannot be interpreted as an integer");
    }
  }
  const Int start = given.size() == 1 ? 0 : to_index(given[0]);
  const Int stop = to_index(given[given.size() == 1 ? 0 : 1]);
  const Int step = given.size() == 3 ? to_index(given[2]) : 1;
  if (step == 0) fail("range() arg 3 must not be zero");
  const Int span = step > 0 ? stop - start : start - stop;
  const Int stride = step > 0 ? step : -step;
  const Int count = span <= 0 ? 0 : (span + stride - 1) / stride;
  if (count > kItemsMax) fail("Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).");
  charge(static_cast<uint64_t>(count));
  std::vector<Value> items;
  for (Int i = 0; i < count; ++i) items.push_back(Value::integer(start + i * step));
  return std::make_shared<Sequence>(SequenceType::kRange, std::move(items));
}

std::vector<std::pair<Value, Value>> Interpreter::collect_pairs(const Arguments& arguments) {
  std::vector<std::pair<Value, Value>> pairs;
  const auto& given = arguments.positional;
  if (given.size() > 1) fail("dict expected at most 1 argument, got " + std::to_string(given.size()));
  if (!given.empty() && given[0].is_dict()) {
    pairs = given[0].dict()->entries;
  } else if (!given.empty()) {
    const auto visited = iterate(*this, given[0]);
    for (const Value& pair : visited->items) {
      const auto parts = iterate(*this, pair);
      if (parts->items.size() != 2) {
        fail("dictionary update sequence element has length " + std::to_string(parts->items.size()) +
             "; 2 is required");
      }
      pairs.emplace_back(parts->items[0], parts->items[1]);
    }
  }
  for (const auto& [name, value] : arguments.named) pairs.emplace_back(Value::literal(name), value);
  charge(pairs.size());
  return pairs;
}

Value Interpreter::make_namespace(const Arguments& arguments) {
  const auto made = std::make_shared<Namespace>();
  for (const auto& [key, value] : collect_pairs(arguments)) {
    if (!key.is_string()) refuse("a namespace with a key that is no string");
    if (key.view().substr(0, 1) == "_") {
      fail("a namespace cannot have the attribute " + string_repr(key.view()));
    }
    charge(1 + made->attributes.size() / 8);
    made->set(key.view(), value);
  }
  charge(16);
  namespaces_.push_back(made);
  return made;
}

Value Interpreter::make_dict(const Arguments& arguments) {
  const auto dict = std::make_shared<Dict>();
  for (const auto& [key, value] : collect_pairs(arguments)) {
    charge(key.weight());
    dict->set(key, value);
  }
  return std::shared_ptr<const Dict>(dict);
}

// datetime.now().strftime(format); the clock is UTC.
Value Interpreter::format_now(const Arguments& arguments) {
  constexpr size_t kFormatBytesMax = 256;
  const Value format = arguments.bind("strftime_now", {"format"}, 1)[0];
  if (!format.is_string()) fail("strftime() argument 1 must be str, not " + std::string(format.type_name()));
  const std::string pattern(format.view());
  if (pattern.empty()) return Value::literal("");
  if (pattern.size() > kFormatBytesMax) fail("the format of strftime_now is longer than 256 bytes");
  const auto seconds = static_cast<std::time_t>(now_unix_seconds_);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  std::array<char, 4096> buffer;
  const size_t bytes = std::strftime(buffer.data(), buffer.size(), pattern.c_str(), &utc);
  return make_string(Text(std::string(buffer.data(), bytes), true));
}

}  // namespace gantry::jinja

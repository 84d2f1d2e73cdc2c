// Which methods a value has, and those of dicts, lists, tuples and loops. The methods of str are in
// jinja_string_methods.cc.
#include <algorithm>
#include <array>

#include "chat/jinja_access.h"
#include "chat/jinja_error.h"
#include "chat/jinja_interpreter.h"
#include "chat/jinja_operators.h"

namespace gantry::jinja {
namespace {

constexpr std::array<std::string_view, 45> kStringMethods = {
    "capitalize", "casefold",     "center",     "count",        "endswith",     "find",    "format",
    "index",      "isalnum",      "isalpha",    "isascii",      "isdecimal",    "isdigit", "islower",
    "isnumeric",  "isprintable",  "isspace",    "isupper",      "istitle",      "join",    "ljust",
    "lower",      "lstrip",       "partition",  "removeprefix", "removesuffix", "replace", "rfind",
    "rindex",     "rjust",        "rpartition", "rsplit",       "rstrip",       "split",   "splitlines",
    "startswith", "strip",        "swapcase",   "title",        "upper",        "zfill",   "encode",
    "expandtabs", "isidentifier", "translate"};
constexpr std::array<std::string_view, 6> kDictMethods = {"copy",  "fromkeys", "get",
                                                          "items", "keys",     "values"};
constexpr std::array<std::string_view, 5> kDictMutators = {"clear", "pop", "popitem", "setdefault", "update"};
constexpr std::array<std::string_view, 3> kListMethods = {"copy", "count", "index"};
constexpr std::array<std::string_view, 8> kListMutators = {"append", "clear",  "extend",  "insert",
                                                           "pop",    "remove", "reverse", "sort"};

template <size_t n>
bool has(const std::array<std::string_view, n>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

Value view(SequenceType type, std::vector<Value> items) {
  return std::make_shared<Sequence>(type, std::move(items));
}

Value call_dict_method(Interpreter& interpreter, const Value& receiver, const std::string& name,
                       const Arguments& arguments) {
  const Dict& dict = *receiver.dict();
  if (name == "get") {
    if (arguments.positional.empty()) fail("get expected at least 1 argument, got 0");
    const auto bound = arguments.bind("get", {"key", "default"}, 1);
    interpreter.charge(bound[0].weight());
    if (const Value* found = dict.find(bound[0])) return *found;
    return is_given(bound[1]) ? bound[1] : Value();
  }
  if (name == "fromkeys") refuse("method 'fromkeys' of a dict");
  arguments.bind(name, {}, 0);
  if (name == "copy") return receiver;
  std::vector<Value> items;
  for (const auto& [key, value] : dict.entries) {
    interpreter.charge(name == "items" ? 4 : 1);
    items.push_back(name == "keys" ? key : name == "values" ? value : Value::tuple({key, value}));
  }
  return view(name == "keys"     ? SequenceType::kDictKeys
              : name == "values" ? SequenceType::kDictValues
                                 : SequenceType::kDictItems,
              std::move(items));
}

Value call_list_method(Interpreter& interpreter, const Value& receiver, const std::string& name,
                       const Arguments& arguments) {
  const auto& items = receiver.sequence()->items;
  if (name == "copy") {
    arguments.bind("copy", {}, 0);
    interpreter.charge(items.size());
    return Value::list(items);
  }
  const Value wanted = arguments.bind(name, {"value"}, 1)[0];
  Int count = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!equals(interpreter, items[i], wanted)) continue;
    if (name == "index") return Value::integer(static_cast<Int>(i));
    ++count;
  }
  if (name == "index")
    fail(interpreter.text_of(wanted).bytes() + " is not in " + std::string(receiver.type_name()));
  return Value::integer(count);
}

Value call_loop_function(Interpreter& interpreter, const Value& receiver, const std::string& name,
                         const Arguments& arguments) {
  Loop& loop = *receiver.loop();
  const auto& given = arguments.positional;
  if (!arguments.named.empty()) fail(name + "() takes no keyword arguments");
  if (name == "cycle") {
    if (given.empty()) fail("no items for cycling given");
    return given[loop.index0 % given.size()];
  }
  bool same = loop.has_changed_value && loop.changed_value.size() == given.size();
  for (size_t i = 0; same && i < given.size(); ++i)
    same = equals(interpreter, loop.changed_value[i], given[i]);
  // A loop object that is over holds no values.
  if (!same && loop.sequence) {
    loop.has_changed_value = true;
    loop.changed_value = given;
  }
  return Value::boolean(!same);
}

}  // namespace

MethodStatus method_status(const Value& object, std::string_view name) {
  const auto is = [](bool method, bool mutates) {
    return method ? MethodStatus::kMethod : mutates ? MethodStatus::kMutates : MethodStatus::kNone;
  };
  if (object.is_string()) return is(has(kStringMethods, name), false);
  if (object.is_dict()) return is(has(kDictMethods, name), has(kDictMutators, name));
  if (object.is_sequence()) {
    switch (object.sequence()->type) {
      case SequenceType::kList:
        return is(has(kListMethods, name), has(kListMutators, name));
      case SequenceType::kTuple:
      case SequenceType::kRange:
        return is(name == "count" || name == "index", false);
      default:
        return MethodStatus::kNone;
    }
  }
  return MethodStatus::kNone;
}

Value call_method(Interpreter& interpreter, const Method& method, const Arguments& arguments) {
  switch (method.receiver.kind()) {
    case Value::Kind::kString:
      return call_string_method(interpreter, method.receiver, method.name, arguments);
    case Value::Kind::kDict:
      return call_dict_method(interpreter, method.receiver, method.name, arguments);
    case Value::Kind::kLoop:
      return call_loop_function(interpreter, method.receiver, method.name, arguments);
    default:
      return call_list_method(interpreter, method.receiver, method.name, arguments);
  }
}

}  // namespace gantry::jinja

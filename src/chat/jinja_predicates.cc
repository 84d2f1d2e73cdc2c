// The tests of Jinja ("x is NAME"), jinja2/tests.py.
#include <unordered_map>

#include "chat/jinja_access.h"
#include "chat/jinja_error.h"
#include "chat/jinja_interpreter.h"
#include "chat/jinja_operators.h"
#include "chat/jinja_unicode.h"
#include "chat/python_repr.h"

namespace gantry::jinja {
namespace {

using Predicate = bool (*)(Interpreter&, const Value&, const Arguments&);
using Kind = Value::Kind;

bool no_arguments(const Arguments& arguments, bool result) {
  arguments.bind("test", {}, 0);
  return result;
}

template <Operator op>
bool compare_with(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  return compare(interpreter, op, value, arguments.bind("test", {"b"}, 1)[0]);
}

bool divides(Interpreter& interpreter, const Value& value, const Value& by, Int rest) {
  return equals(interpreter, binary(interpreter, Operator::kMod, value, by), Value::integer(rest));
}

// str.islower and str.isupper: cased letters are all of one case, and there is one.
bool has_case(Interpreter& interpreter, const Value& value, bool (*wanted)(char32_t)) {
  const Text text = interpreter.text_of(value);
  bool any = false;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = unicode::next(text.view(), at);
    if (!unicode::is_cased(c)) continue;
    if (!wanted(c)) return false;
    any = true;
  }
  return any;
}

bool is_sequence(const Value& value) {
  if (value.is_sequence()) {
    const SequenceType type = value.sequence()->type;
    return type == SequenceType::kList || type == SequenceType::kTuple || type == SequenceType::kRange;
  }
  return value.is_string() || value.is_dict() || value.is_undefined();
}

const std::unordered_map<std::string_view, Predicate>& predicates() {
  static const std::unordered_map<std::string_view, Predicate> table = {
      {"defined",
       [](Interpreter&, const Value& v, const Arguments& a) { return no_arguments(a, !v.is_undefined()); }},
      {"undefined",
       [](Interpreter&, const Value& v, const Arguments& a) { return no_arguments(a, v.is_undefined()); }},
      {"none", [](Interpreter&, const Value& v, const Arguments& a) { return no_arguments(a, v.is_none()); }},
      {"boolean", [](Interpreter&, const Value& v,
                     const Arguments& a) { return no_arguments(a, v.kind() == Kind::kBool); }},
      {"true", [](Interpreter&, const Value& v,
                  const Arguments& a) { return no_arguments(a, v.kind() == Kind::kBool && v.as_bool()); }},
      {"false", [](Interpreter&, const Value& v,
                   const Arguments& a) { return no_arguments(a, v.kind() == Kind::kBool && !v.as_bool()); }},
      {"integer", [](Interpreter&, const Value& v,
                     const Arguments& a) { return no_arguments(a, v.kind() == Kind::kInt); }},
      {"float", [](Interpreter&, const Value& v,
                   const Arguments& a) { return no_arguments(a, v.kind() == Kind::kFloat); }},
      {"number",
       [](Interpreter&, const Value& v, const Arguments& a) { return no_arguments(a, v.is_numeric()); }},
      {"string",
       [](Interpreter&, const Value& v, const Arguments& a) { return no_arguments(a, v.is_string()); }},
      {"mapping",
       [](Interpreter&, const Value& v, const Arguments& a) { return no_arguments(a, v.is_dict()); }},
      {"sequence",
       [](Interpreter&, const Value& v, const Arguments& a) { return no_arguments(a, is_sequence(v)); }},
      {"iterable",
       [](Interpreter&, const Value& v, const Arguments& a) { return no_arguments(a, is_iterable(v)); }},
      {"escaped",
       [](Interpreter&, const Value& v, const Arguments& a) { return no_arguments(a, v.is_markup()); }},
      {"callable",
       [](Interpreter&, const Value& v, const Arguments& a) {
         return no_arguments(a, v.kind() == Kind::kMacro || v.kind() == Kind::kMethod ||
                                    v.kind() == Kind::kFunction || v.is_undefined() ||
                                    v.kind() == Kind::kLoop);
       }},
      {"lower",
       [](Interpreter& i, const Value& v, const Arguments&) { return has_case(i, v, unicode::is_lower); }},
      {"upper",
       [](Interpreter& i, const Value& v, const Arguments&) { return has_case(i, v, unicode::is_upper); }},
      {"odd",
       [](Interpreter& i, const Value& v, const Arguments&) { return divides(i, v, Value::integer(2), 1); }},
      {"even",
       [](Interpreter& i, const Value& v, const Arguments&) { return divides(i, v, Value::integer(2), 0); }},
      {"divisibleby",
       [](Interpreter& i, const Value& v, const Arguments& a) {
         return divides(i, v, a.bind("test_divisibleby", {"num"}, 1)[0], 0);
       }},
      {"sameas", [](Interpreter&, const Value& v,
                    const Arguments& a) { return v.same_as(a.bind("test_sameas", {"other"}, 1)[0]); }},
      {"in", [](Interpreter& i, const Value& v,
                const Arguments& a) { return contains(i, a.bind("test_in", {"seq"}, 1)[0], v); }},
      {"filter",
       [](Interpreter&, const Value& v, const Arguments&) {
         return v.is_string() && filter_status(v.view()) == LibraryStatus::kSupported;
       }},
      {"test",
       [](Interpreter&, const Value& v, const Arguments&) {
         return v.is_string() && test_status(v.view()) == LibraryStatus::kSupported;
       }},
      {"eq", compare_with<Operator::kEq>},
      {"==", compare_with<Operator::kEq>},
      {"equalto", compare_with<Operator::kEq>},
      {"ne", compare_with<Operator::kNe>},
      {"!=", compare_with<Operator::kNe>},
      {"gt", compare_with<Operator::kGt>},
      {">", compare_with<Operator::kGt>},
      {"greaterthan", compare_with<Operator::kGt>},
      {"ge", compare_with<Operator::kGe>},
      {">=", compare_with<Operator::kGe>},
      {"lt", compare_with<Operator::kLt>},
      {"<", compare_with<Operator::kLt>},
      {"lessthan", compare_with<Operator::kLt>},
      {"le", compare_with<Operator::kLe>},
      {"<=", compare_with<Operator::kLe>},
  };
  return table;
}

}  // namespace

LibraryStatus test_status(std::string_view name) {
  return predicates().count(name) != 0 ? LibraryStatus::kSupported : LibraryStatus::kUnknown;
}

bool call_test(Interpreter& interpreter, const std::string& name, const Value& value,
               const Arguments& arguments) {
  const auto it = predicates().find(name);
  if (it == predicates().end()) fail("No test named " + string_repr(name) + ".");
  return it->second(interpreter, value, arguments);
}

}  // namespace gantry::jinja

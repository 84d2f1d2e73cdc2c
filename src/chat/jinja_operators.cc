#include "chat/jinja_operators.h"

#include <cmath>
#include <cstring>
#include <optional>

#include "chat/jinja_access.h"
#include "chat/jinja_error.h"
#include "chat/python_format.h"
#include "chat/python_repr.h"

namespace gantry::jinja {
namespace {

std::string_view symbol(Operator op) {
  switch (op) {
    case Operator::kAdd:
      return "+";
    case Operator::kSub:
      return "-";
    case Operator::kMul:
      return "*";
    case Operator::kDiv:
      return "/";
    case Operator::kFloorDiv:
      return "//";
    case Operator::kMod:
      return "%";
    case Operator::kPow:
      return "** or pow()";
    case Operator::kLt:
      return "<";
    case Operator::kLe:
      return "<=";
    case Operator::kGt:
      return ">";
    case Operator::kGe:
      return ">=";
    default:
      return "";
  }
}

[[noreturn]] void too_big() { fail("an integer needs more than 128 bits"); }

Int power(Int base, Int exponent) {
  Int result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) too_big();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) too_big();
  }
  return result;
}

Value integer_arithmetic(Operator op, Int a, Int b) {
  Int result = 0;
  switch (op) {
    case Operator::kAdd:
      if (__builtin_add_overflow(a, b, &result)) too_big();
      return Value::integer(result);
    case Operator::kSub:
      if (__builtin_sub_overflow(a, b, &result)) too_big();
      return Value::integer(result);
    case Operator::kMul:
      if (__builtin_mul_overflow(a, b, &result)) too_big();
      return Value::integer(result);
    case Operator::kDiv:
      if (b == 0) fail("division by zero");
      return Value::number(static_cast<double>(a) / static_cast<double>(b));
    case Operator::kFloorDiv:
    case Operator::kMod: {
      const bool is_mod = op == Operator::kMod;
      if (b == 0) fail(is_mod ? "integer modulo by zero" : "integer division or modulo by zero");
      if (b == -1) {  // the one quotient that can overflow
        if (is_mod) return Value::integer(0);
        if (__builtin_sub_overflow(Int{0}, a, &result)) too_big();
        return Value::integer(result);
      }
      const Int quotient = a / b;
      const Int rest = a % b;
      const bool adjust = rest != 0 && (rest < 0) != (b < 0);
      if (is_mod) return Value::integer(adjust ? rest + b : rest);
      return Value::integer(adjust ? quotient - 1 : quotient);
    }
    default:
      if (b >= 0) return Value::integer(power(a, b));
      if (a == 0) fail("0.0 cannot be raised to a negative power");
      return Value::number(std::pow(static_cast<double>(a), static_cast<double>(b)));
  }
}

Value float_arithmetic(Operator op, double a, double b) {
  switch (op) {
    case Operator::kAdd:
      return Value::number(a + b);
    case Operator::kSub:
      return Value::number(a - b);
    case Operator::kMul:
      return Value::number(a * b);
    case Operator::kDiv:
      if (b == 0) fail("float division by zero");
      return Value::number(a / b);
    case Operator::kFloorDiv:
    case Operator::kMod: {
      const bool is_mod = op == Operator::kMod;
      if (b == 0) fail(is_mod ? "float modulo" : "float floor division by zero");
      double rest = std::fmod(a, b);
      double quotient = (a - rest) / b;
      if (rest != 0) {
        if ((b < 0) != (rest < 0)) {
          rest += b;
          quotient -= 1.0;
        }
      } else {
        rest = std::copysign(0.0, b);
      }
      if (is_mod) return Value::number(rest);
      if (quotient == 0) return Value::number(std::copysign(0.0, a / b));
      const double floored = std::floor(quotient);
      return Value::number(quotient - floored > 0.5 ? floored + 1.0 : floored);
    }
    default:
      if (a == 0 && b < 0) fail("0.0 cannot be raised to a negative power");
      if (a < 0 && std::floor(b) != b) refuse("a complex number");
      return Value::number(std::pow(a, b));
  }
}

// `count` copies of a text or list.
Value repeat(Interpreter& interpreter, const Value& value, Int count) {
  if (count < 0) count = 0;
  const bool is_string = value.is_string();
  const size_t size = is_string ? value.view().size() : value.sequence()->items.size();
  const Int total = static_cast<Int>(size) * std::min(count, Int{1} << 40);
  if (total > (Int{1} << 40)) exhaust("a repeated value is too long");
  if (is_string) {
    interpreter.charge_string(static_cast<size_t>(total));
    if (size > 0) interpreter.charge(value.text().cost() * static_cast<uint64_t>(count));
    Text out;
    for (Int i = 0; size > 0 && i < count; ++i) out.append(value.text());
    return Value::string(std::move(out), value.is_markup());
  }
  interpreter.charge(static_cast<uint64_t>(total));
  std::vector<Value> items;
  for (Int i = 0; size > 0 && i < count; ++i) {
    items.insert(items.end(), value.sequence()->items.begin(), value.sequence()->items.end());
  }
  return std::make_shared<Sequence>(value.sequence()->type, std::move(items));
}

bool is_list_or_tuple(const Value& value) {
  return value.is_sequence() &&
         (value.sequence()->type == SequenceType::kList || value.sequence()->type == SequenceType::kTuple);
}

Value add_strings(Interpreter& interpreter, const Value& a, const Value& b) {
  const bool markup = a.is_markup() || b.is_markup();
  Text out;
  out.append(markup ? escape_html(a) : a.text());
  out.append(markup ? escape_html(b) : b.text());
  return interpreter.make_string(std::move(out), markup);
}

// <0, 0, >0; nothing for NaN.
std::optional<int> order_numbers(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) {
    return a.as_int() < b.as_int() ? -1 : a.as_int() > b.as_int() ? 1 : 0;
  }
  const double x = a.as_double();
  const double y = b.as_double();
  if (std::isnan(x) || std::isnan(y)) return std::nullopt;
  return x < y ? -1 : x > y ? 1 : 0;
}

bool order_holds(Operator op, int order) {
  switch (op) {
    case Operator::kLt:
      return order < 0;
    case Operator::kLe:
      return order <= 0;
    case Operator::kGt:
      return order > 0;
    default:
      return order >= 0;
  }
}

bool ordered(Interpreter& interpreter, Operator op, const Value& a, const Value& b) {
  if (a.is_undefined()) fail(a.as_undefined().message);
  if (b.is_undefined()) fail(b.as_undefined().message);
  if (a.is_numeric() && b.is_numeric()) {
    const auto order = order_numbers(a, b);
    return order.has_value() && order_holds(op, *order);
  }
  if (a.is_string() && b.is_string()) {
    // The order of UTF-8 bytes is the order of code points.
    return order_holds(op, a.view().compare(b.view()));
  }
  if (is_list_or_tuple(a) && is_list_or_tuple(b) && a.sequence()->type == b.sequence()->type) {
    const auto& x = a.sequence()->items;
    const auto& y = b.sequence()->items;
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (!equals(interpreter, x[i], y[i])) return ordered(interpreter, op, x[i], y[i]);
    }
    return order_holds(op, x.size() < y.size() ? -1 : x.size() > y.size() ? 1 : 0);
  }
  fail("'" + std::string(symbol(op)) + "' not supported between instances of '" + std::string(a.type_name()) +
       "' and '" + std::string(b.type_name()) + "'");
}

bool equal_parts(const Value& a, const Value& b) {
  if (a.is_numeric() && b.is_numeric()) {
    const auto order = order_numbers(a, b);
    return order.has_value() && *order == 0;
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Value::Kind::kNone:
    case Value::Kind::kUndefined:
      return true;
    case Value::Kind::kString:
      return a.view() == b.view();
    case Value::Kind::kSequence: {
      const Sequence& x = *a.sequence();
      const Sequence& y = *b.sequence();
      if (&x == &y) return true;
      if (x.type != y.type || x.type == SequenceType::kGenerator || x.items.size() != y.items.size())
        return false;
      for (size_t i = 0; i < x.items.size(); ++i) {
        if (!equal_parts(x.items[i], y.items[i])) return false;
      }
      return true;
    }
    case Value::Kind::kDict: {
      const Dict& x = *a.dict();
      const Dict& y = *b.dict();
      if (&x == &y) return true;
      if (x.entries.size() != y.entries.size()) return false;
      for (const auto& [key, value] : x.entries) {
        const Value* other = y.find(key);
        if (other == nullptr || !equal_parts(value, *other)) return false;
      }
      return true;
    }
    default:
      return a.same_as(b);
  }
}

}  // namespace

Text escape_html(const Value& value) {
  if (value.is_markup()) return value.text();
  const Text text = to_text(value);
  Text out;
  size_t at = 0;
  for (const Text::Run& run : text.runs()) {
    std::string part;
    for (; at < run.end; ++at) {
      switch (text.bytes()[at]) {
        case '&':
          part += "&amp;";
          break;
        case '<':
          part += "&lt;";
          break;
        case '>':
          part += "&gt;";
          break;
        case '\'':
          part += "&#39;";
          break;
        case '"':
          part += "&#34;";
          break;
        default:
          part.push_back(text.bytes()[at]);
      }
    }
    out.append(part, run.from_template);
  }
  return out;
}

size_t find_bytes(std::string_view text, std::string_view needle, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (needle.empty()) return from;
  // memmem is linear whatever the needle; std::string_view::find is not.
  const void* found = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

size_t find_last_bytes(std::string_view text, std::string_view needle) {
  const std::string reversed_text(text.rbegin(), text.rend());
  const std::string reversed_needle(needle.rbegin(), needle.rend());
  const size_t at = find_bytes(reversed_text, reversed_needle, 0);
  return at == std::string_view::npos ? at : text.size() - at - needle.size();
}

Value binary(Interpreter& interpreter, Operator op, const Value& a, const Value& b) {
  if (a.is_string() && op == Operator::kMod)
    return interpreter.make_string(format_percent(interpreter, a, b), a.is_markup());
  if (a.is_undefined()) fail(a.as_undefined().message);
  if (b.is_undefined()) fail(b.as_undefined().message);
  if (a.is_numeric() && b.is_numeric()) {
    if (a.is_integral() && b.is_integral()) return integer_arithmetic(op, a.as_int(), b.as_int());
    return float_arithmetic(op, a.as_double(), b.as_double());
  }
  if (op == Operator::kAdd) {
    if (a.is_string() && b.is_string()) return add_strings(interpreter, a, b);
    if (is_list_or_tuple(a) && is_list_or_tuple(b) && a.sequence()->type == b.sequence()->type) {
      std::vector<Value> items = a.sequence()->items;
      items.insert(items.end(), b.sequence()->items.begin(), b.sequence()->items.end());
      interpreter.charge(items.size());
      return std::make_shared<Sequence>(a.sequence()->type, std::move(items));
    }
    if (a.is_string() || is_list_or_tuple(a)) {
      const std::string type(a.is_string() ? "str" : a.type_name());
      fail("can only concatenate " + type + " (not \"" + std::string(b.type_name()) + "\") to " + type);
    }
  }
  if (op == Operator::kMul) {
    const bool left = (a.is_string() || is_list_or_tuple(a)) && b.is_integral();
    const bool right = (b.is_string() || is_list_or_tuple(b)) && a.is_integral();
    if (left) return repeat(interpreter, a, b.as_int());
    if (right) return repeat(interpreter, b, a.as_int());
    if (a.is_string() || is_list_or_tuple(a) || b.is_string() || is_list_or_tuple(b)) {
      const Value& other = a.is_string() || is_list_or_tuple(a) ? b : a;
      fail("can't multiply sequence by non-int of type '" + std::string(other.type_name()) + "'");
    }
  }
  fail("unsupported operand type(s) for " + std::string(symbol(op)) + ": '" + std::string(a.type_name()) +
       "' and '" + std::string(b.type_name()) + "'");
}

Value negate(const Value& a) {
  if (a.is_undefined()) fail(a.as_undefined().message);
  if (a.is_integral()) return integer_arithmetic(Operator::kSub, 0, a.as_int());
  if (a.is_numeric()) return Value::number(-a.as_double());
  fail("bad operand type for unary -: '" + std::string(a.type_name()) + "'");
}

Value positive(const Value& a) {
  if (a.is_undefined()) fail(a.as_undefined().message);
  if (a.is_integral()) return Value::integer(a.as_int());
  if (a.is_numeric()) return a;
  fail("bad operand type for unary +: '" + std::string(a.type_name()) + "'");
}

bool equals(Interpreter& interpreter, const Value& a, const Value& b) {
  interpreter.charge(std::min(a.weight(), b.weight()));
  return equal_parts(a, b);
}

bool less(Interpreter& interpreter, const Value& a, const Value& b) {
  interpreter.charge(std::min(a.weight(), b.weight()));
  return ordered(interpreter, Operator::kLt, a, b);
}

bool compare(Interpreter& interpreter, Operator op, const Value& a, const Value& b) {
  switch (op) {
    case Operator::kEq:
      return equals(interpreter, a, b);
    case Operator::kNe:
      return !equals(interpreter, a, b);
    case Operator::kIn:
      return contains(interpreter, b, a);
    case Operator::kNotIn:
      return !contains(interpreter, b, a);
    default:
      interpreter.charge(std::min(a.weight(), b.weight()));
      return ordered(interpreter, op, a, b);
  }
}

bool contains(Interpreter& interpreter, const Value& container, const Value& item) {
  if (container.is_string()) {
    if (!item.is_string()) {
      fail("'in <string>' requires string as left operand, not " + std::string(item.type_name()));
    }
    interpreter.charge(container.weight());
    return find_bytes(container.view(), item.view(), 0) != std::string_view::npos;
  }
  if (container.is_dict()) {
    interpreter.charge(item.weight());
    return container.dict()->find(item) != nullptr;
  }
  if (!container.is_sequence() && !container.is_undefined()) {
    fail("argument of type '" + std::string(container.type_name()) + "' is not iterable");
  }
  const auto visited = iterate(interpreter, container);
  for (const Value& candidate : visited->items) {
    if (equals(interpreter, candidate, item)) return true;
  }
  return false;
}

}  // namespace gantry::jinja

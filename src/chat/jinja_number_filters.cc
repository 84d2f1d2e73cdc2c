// Filters that give numbers, jinja2/filters.py.
#include <algorithm>
#include <cmath>

#include "chat/jinja_access.h"
#include "chat/jinja_error.h"
#include "chat/jinja_filters.h"
#include "chat/jinja_operators.h"
#include "chat/python_format.h"

namespace gantry::jinja {
namespace {

Value to_int(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const auto bound = arguments.bind("do_int", {"default", "base"}, 0);
  const Value fallback = is_given(bound[0]) ? bound[0] : Value::integer(0);
  if (value.is_undefined()) fail(value.as_undefined().message);
  if (value.is_string()) {
    interpreter.charge(value.weight());
    const int64_t base = is_given(bound[1]) ? to_index(bound[1]) : 10;
    if (base == 0 || (base >= 2 && base <= 36)) {
      if (const auto parsed = parse_int(value.view(), static_cast<int>(base))) return Value::integer(*parsed);
    }
    const auto number = parse_float(value.view());
    if (!number || !std::isfinite(*number)) return fallback;
    return Value::integer(truncate_to_int(*number));
  }
  if (value.is_integral()) return Value::integer(value.as_int());
  if (value.kind() == Value::Kind::kFloat) {
    if (std::isnan(value.as_double())) return fallback;
    return Value::integer(truncate_to_int(value.as_double()));
  }
  return fallback;
}

Value to_float(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const Value given = arguments.bind("do_float", {"default"}, 0)[0];
  const Value fallback = is_given(given) ? given : Value::number(0);
  if (value.is_undefined()) fail(value.as_undefined().message);
  if (value.is_numeric()) return Value::number(value.as_double());
  if (!value.is_string()) return fallback;
  interpreter.charge(value.weight());
  const auto parsed = parse_float(value.view());
  return parsed ? Value::number(*parsed) : fallback;
}

Value absolute(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  arguments.bind("abs", {}, 0);
  if (value.is_undefined()) fail(value.as_undefined().message);
  if (!value.is_numeric()) fail("bad operand type for abs(): '" + std::string(value.type_name()) + "'");
  if (!value.is_integral()) return Value::number(std::fabs(value.as_double()));
  return less(interpreter, value, Value::integer(0)) ? negate(value) : Value::integer(value.as_int());
}

Value round(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const auto bound = arguments.bind("do_round", {"precision", "method"}, 0);
  const std::string method = is_given(bound[1]) ? interpreter.text_of(bound[1]).bytes() : "common";
  if (method != "common" && method != "ceil" && method != "floor")
    fail("method must be common, ceil or floor");
  if (value.is_undefined()) fail(value.as_undefined().message);
  if (!value.is_numeric())
    fail("type " + std::string(value.type_name()) + " doesn't define __round__ method");
  const auto digits =
      static_cast<int>(std::clamp<int64_t>(is_given(bound[0]) ? to_index(bound[0]) : 0, -400, 400));
  if (method == "common") {
    if (value.is_integral()) {
      if (digits >= 0) return Value::integer(value.as_int());
      return Value::integer(truncate_to_int(round_half_even(value.as_double(), digits)));
    }
    return Value::number(round_half_even(value.as_double(), digits));
  }
  const double scale = std::pow(10.0, digits);
  const double scaled = value.as_double() * scale;
  return Value::number((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

Value count(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  arguments.bind("len", {}, 0);
  if (value.is_string()) interpreter.charge(value.weight());
  return Value::integer(static_cast<Int>(length(value)));
}

Value sum(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const auto bound = arguments.bind("do_sum", {"attribute", "start"}, 0);
  Value total = is_given(bound[1]) ? bound[1] : Value::integer(0);
  const bool by_attribute = is_given(bound[0]) && !bound[0].is_none();
  const auto visited = iterate(interpreter, value);
  for (const Value& item : visited->items) {
    total = binary(interpreter, Operator::kAdd, total,
                   by_attribute ? get_path(interpreter, item, bound[0]) : item);
  }
  return total;
}

template <bool maximum>
Value extreme(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const auto bound = arguments.bind(maximum ? "do_max" : "do_min", {"case_sensitive", "attribute"}, 0);
  const bool case_sensitive = is_given(bound[0]) && bound[0].truthy();
  const auto sequence = iterate(interpreter, value);
  if (sequence->items.empty()) return Value::undefined("No aggregated item, sequence was empty.");
  const auto key = [&](const Value& item) {
    const bool by_attribute = is_given(bound[1]) && !bound[1].is_none();
    return ignore_case(interpreter, by_attribute ? get_path(interpreter, item, bound[1]) : item,
                       case_sensitive);
  };
  const Value* best = &sequence->items[0];
  Value best_key = key(*best);
  for (size_t i = 1; i < sequence->items.size(); ++i) {
    Value candidate = key(sequence->items[i]);
    const bool better = compare(interpreter, maximum ? Operator::kGt : Operator::kLt, candidate, best_key);
    if (!better) continue;
    best = &sequence->items[i];
    best_key = std::move(candidate);
  }
  return *best;
}

}  // namespace

const FilterTable& number_filters() {
  static const FilterTable table = {
      {"int", to_int},  {"float", to_float},     {"abs", absolute},
      {"round", round}, {"length", count},       {"count", count},
      {"sum", sum},     {"min", extreme<false>}, {"max", extreme<true>},
  };
  return table;
}

}  // namespace gantry::jinja

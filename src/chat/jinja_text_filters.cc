// Filters on strings, jinja2/filters.py.
#include <algorithm>

#include "chat/jinja_access.h"
#include "chat/jinja_error.h"
#include "chat/jinja_filters.h"
#include "chat/jinja_operators.h"
#include "chat/jinja_unicode.h"
#include "chat/python_format.h"
#include "chat/python_json.h"
#include "chat/python_repr.h"

namespace gantry::jinja {
namespace {

// The filter that a method of str does, on str(value).
template <const char* const& method>
Value by_method(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  return call_string_method(interpreter, soft_string(interpreter, value), method, arguments);
}

constexpr const char* kUpper = "upper";
constexpr const char* kLower = "lower";
constexpr const char* kCapitalize = "capitalize";

Value trim(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const Value chars = arguments.bind("do_trim", {"chars"}, 0)[0];
  Arguments strip;
  if (is_given(chars)) strip.positional.push_back(chars);
  return call_string_method(interpreter, soft_string(interpreter, value), "strip", strip);
}

// Words begin after white space, or one of -({[<.
Value title(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  arguments.bind("do_title", {}, 0);
  const Text text = interpreter.text_of(value);
  Text out;
  bool at_word_start = true;
  size_t at = 0;
  for (const Text::Run& run : text.runs()) {
    std::string part;
    while (at < run.end) {
      const char32_t c = unicode::next(text.view(), at);
      if (at_word_start) {
        unicode::append_upper(part, c);
      } else {
        unicode::append_lower(part, c);
      }
      at_word_start =
          unicode::is_space(c) ||
          (c < 0x80 && std::string_view("-({[<").find(static_cast<char>(c)) != std::string_view::npos);
    }
    out.append(part, run.from_template);
  }
  return interpreter.make_string(std::move(out));
}

Value replace(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const auto bound = arguments.bind("do_replace", {"old", "new", "count"}, 2);
  Arguments method;
  method.positional = {interpreter.make_string(interpreter.text_of(bound[0])),
                       interpreter.make_string(interpreter.text_of(bound[1]))};
  if (is_given(bound[2]) && !bound[2].is_none()) method.positional.push_back(bound[2]);
  return call_string_method(interpreter, interpreter.make_string(interpreter.text_of(value)), "replace",
                            method);
}

Value string(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  arguments.bind("soft_str", {}, 0);
  return soft_string(interpreter, value);
}

Value safe(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  arguments.bind("do_mark_safe", {}, 0);
  return interpreter.make_string(interpreter.text_of(value), true);
}

Value escape(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  arguments.bind("escape", {}, 0);
  interpreter.charge(6 * value.weight());
  return interpreter.make_string(escape_html(value), true);
}

Value force_escape(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  arguments.bind("do_forceescape", {}, 0);
  interpreter.charge(6 * value.weight());
  return interpreter.make_string(escape_html(interpreter.make_string(interpreter.text_of(value))), true);
}

Value format(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.named.empty()) {
    fail("can't handle positional and keyword arguments at the same time");
  }
  const Value pattern = soft_string(interpreter, value);
  if (arguments.named.empty()) {
    return interpreter.make_string(format_percent(interpreter, pattern, Value::tuple(arguments.positional)));
  }
  const auto dict = std::make_shared<Dict>();
  for (const auto& [name, item] : arguments.named) dict->set(Value::literal(name), item);
  return interpreter.make_string(format_percent(interpreter, pattern, std::shared_ptr<const Dict>(dict)));
}

Value indent(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  constexpr Int kWidthMax = 10'000;
  const auto bound = arguments.bind("do_indent", {"width", "first", "blank"}, 0);
  Text space(std::string(4, ' '), true);
  if (is_given(bound[0])) {
    if (bound[0].is_string()) {
      space = bound[0].text();
    } else if (bound[0].is_integral()) {
      if (bound[0].as_int() > kWidthMax) fail("the width of indent is larger than 10000");
      space = Text(std::string(static_cast<size_t>(std::max<Int>(bound[0].as_int(), 0)), ' '), true);
    } else {
      fail("can't multiply sequence by non-int of type '" + std::string(bound[0].type_name()) + "'");
    }
  }
  const bool first = is_given(bound[1]) && bound[1].truthy();
  const bool blank = is_given(bound[2]) && bound[2].truthy();
  if (value.is_undefined()) fail(value.as_undefined().message);
  if (!value.is_string()) {
    fail("unsupported operand type(s) for +=: '" + std::string(value.type_name()) + "' and 'str'");
  }
  Text source = value.text();
  source.append("\n", true);
  const Value lines = call_string_method(interpreter, Value::string(source), "splitlines", {});
  Text out;
  if (first) out.append(space);
  bool is_first = true;
  for (const Value& line : lines.sequence()->items) {
    if (!is_first) {
      out.append("\n", true);
      if (blank || !line.text().empty()) out.append(space);
    }
    is_first = false;
    interpreter.charge(4 + space.cost() + line.text().cost());
    out.append(line.text());
  }
  return interpreter.make_string(std::move(out), value.is_markup());
}

Value join(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const auto bound = arguments.bind("do_join", {"d", "attribute"}, 0);
  const Text separator = is_given(bound[0]) ? interpreter.text_of(bound[0]) : Text();
  Text out;
  bool first = true;
  const auto visited = iterate(interpreter, value);
  for (const Value& item : visited->items) {
    const bool by_attribute = is_given(bound[1]) && !bound[1].is_none();
    const Text part = interpreter.text_of(by_attribute ? get_path(interpreter, item, bound[1]) : item);
    interpreter.charge(4 + part.cost() + separator.cost());
    if (!first) out.append(separator);
    first = false;
    out.append(part);
  }
  return interpreter.make_string(std::move(out));
}

Value center(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const Value width = arguments.bind("do_center", {"width"}, 0)[0];
  Arguments method;
  method.positional.push_back(is_given(width) ? width : Value::integer(80));
  return call_string_method(interpreter, soft_string(interpreter, value), "center", method);
}

Value word_count(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  arguments.bind("do_wordcount", {}, 0);
  const Text text = interpreter.text_of(value);
  Int words = 0;
  bool in_word = false;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = unicode::next(text.view(), at);
    const bool word = c == '_' || unicode::is_alpha(c) || unicode::is_numeric(c);
    words += word && !in_word ? 1 : 0;
    in_word = word;
  }
  return Value::integer(words);
}

Value truncate(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const auto bound = arguments.bind("do_truncate", {"length", "killwords", "end", "leeway"}, 0);
  const int64_t size = is_given(bound[0]) ? to_index(bound[0]) : 255;
  const Value end = is_given(bound[2]) ? bound[2] : Value::literal("...");
  const int64_t leeway = is_given(bound[3]) && !bound[3].is_none() ? to_index(bound[3]) : 5;
  const auto end_size = static_cast<int64_t>(length(end));
  if (size < end_size)
    fail("expected length >= " + std::to_string(end_size) + ", got " + std::to_string(size));
  if (leeway < 0) fail("expected leeway >= 0, got " + std::to_string(leeway));
  if (static_cast<int64_t>(length(value)) <= size + leeway) return value;
  Value kept = get_slice(interpreter, value, Value(), Value::integer(size - end_size), Value());
  if (!(is_given(bound[1]) && bound[1].truthy()) && kept.is_string()) {
    const size_t space = kept.view().rfind(' ');
    if (space != std::string_view::npos) kept = interpreter.make_string(kept.text().slice(0, space));
  }
  return binary(interpreter, Operator::kAdd, kept, end);
}

std::string separator(const Value& value) {
  if (!value.is_string()) fail("separators must be strings, not " + std::string(value.type_name()));
  if (value.view().size() > 64) fail("a separator of tojson is longer than 64 bytes");
  return std::string(value.view());
}

// transformers' tojson: json.dumps without HTML escapes.
Value to_json_text(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  constexpr size_t kIndentMax = 64;
  const auto bound = arguments.bind("tojson", {"ensure_ascii", "indent", "separators", "sort_keys"}, 0);
  JsonStyle style;
  style.ensure_ascii = is_given(bound[0]) && bound[0].truthy();
  style.sort_keys = is_given(bound[3]) && bound[3].truthy();
  if (is_given(bound[1]) && !bound[1].is_none()) {
    if (bound[1].is_string()) {
      if (bound[1].view().size() > kIndentMax) fail("the indent of tojson is larger than 64");
      style.indent = std::string(bound[1].view());
    } else if (bound[1].is_integral()) {
      if (bound[1].as_int() > Int{kIndentMax}) fail("the indent of tojson is larger than 64");
      style.indent = std::string(static_cast<size_t>(std::max<Int>(bound[1].as_int(), 0)), ' ');
    } else {
      fail("the indent of tojson is no integer and no string");
    }
    style.item_separator = ",";
  }
  if (is_given(bound[2]) && !bound[2].is_none()) {
    const auto parts = iterate(interpreter, bound[2]);
    if (parts->items.size() != 2) fail("the separators of tojson are no pair");
    style.item_separator = separator(parts->items[0]);
    style.key_separator = separator(parts->items[1]);
  }
  interpreter.charge(4 * value.weight());
  return interpreter.make_string(to_json(value, style));
}

}  // namespace

const FilterTable& text_filters() {
  static const FilterTable table = {
      {"upper", by_method<kUpper>},
      {"lower", by_method<kLower>},
      {"capitalize", by_method<kCapitalize>},
      {"trim", trim},
      {"title", title},
      {"replace", replace},
      {"string", string},
      {"safe", safe},
      {"e", escape},
      {"escape", escape},
      {"forceescape", force_escape},
      {"format", format},
      {"indent", indent},
      {"join", join},
      {"center", center},
      {"wordcount", word_count},
      {"truncate", truncate},
      {"tojson", to_json_text},
  };
  return table;
}

}  // namespace gantry::jinja

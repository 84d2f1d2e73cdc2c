#include "chat/python_repr.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "chat/jinja_ast.h"
#include "chat/jinja_unicode.h"

namespace gantry::jinja {
namespace {

void append_repr(const Value& value, Text& out);

void append_items(const std::vector<Value>& items, size_t first, Text& out) {
  for (size_t i = first; i < items.size(); ++i) {
    if (i > first) out.append(", ", true);
    append_repr(items[i], out);
  }
}

void append_sequence(const Sequence& sequence, Text& out) {
  switch (sequence.type) {
    case SequenceType::kList:
      out.append("[", true);
      append_items(sequence.items, 0, out);
      return out.append("]", true);
    case SequenceType::kTuple:
      out.append("(", true);
      append_items(sequence.items, 0, out);
      return out.append(sequence.items.size() == 1 ? ",)" : ")", true);
    case SequenceType::kRange: {
      // The items are all that is kept of a range; its arguments follow from them.
      const auto& items = sequence.items;
      const Int start = items.empty() ? 0 : items.front().as_int();
      const Int step = items.size() < 2 ? 1 : items[1].as_int() - start;
      const Int stop = items.empty() ? 0 : items.back().as_int() + (step > 0 ? 1 : -1);
      out.append("range(" + int_repr(start) + ", " + int_repr(stop), true);
      if (step != 1) out.append(", " + int_repr(step), true);
      return out.append(")", true);
    }
    case SequenceType::kDictKeys:
    case SequenceType::kDictValues:
    case SequenceType::kDictItems:
      out.append(sequence.type == SequenceType::kDictKeys     ? "dict_keys(["
                 : sequence.type == SequenceType::kDictValues ? "dict_values(["
                                                              : "dict_items([",
                 true);
      append_items(sequence.items, 0, out);
      return out.append("])", true);
    case SequenceType::kGenerator:
      return out.append("<generator object>", true);
  }
}

void append_repr(const Value& value, Text& out) {
  switch (value.kind()) {
    case Value::Kind::kNone:
      return out.append("None", true);
    case Value::Kind::kUndefined:
      return out.append("Undefined", true);
    case Value::Kind::kBool:
      return out.append(value.as_bool() ? "True" : "False", true);
    case Value::Kind::kInt:
      return out.append(int_repr(value.as_int()), true);
    case Value::Kind::kFloat:
      return out.append(float_repr(value.as_double()), true);
    case Value::Kind::kString: {
      const std::string quoted = string_repr(value.view());
      const bool ours = value.text().from_template();
      if (!value.is_markup()) return out.append(quoted, ours);
      return out.append("Markup(" + quoted + ")", ours);
    }
    case Value::Kind::kSequence:
      return append_sequence(*value.sequence(), out);
    case Value::Kind::kDict: {
      out.append("{", true);
      bool first = true;
      for (const auto& [key, item] : value.dict()->entries) {
        if (!first) out.append(", ", true);
        first = false;
        append_repr(key, out);
        out.append(": ", true);
        append_repr(item, out);
      }
      return out.append("}", true);
    }
    case Value::Kind::kNamespace:
      return out.append("<Namespace>", true);
    case Value::Kind::kLoop:
      return out.append("<LoopContext " + std::to_string(value.loop()->index0 + 1) + "/" +
                            std::to_string(value.loop()->length) + ">",
                        true);
    case Value::Kind::kMacro:
      return out.append("<Macro " + string_repr(value.macro()->node->name) + ">", true);
    case Value::Kind::kMethod:
      return out.append("<method " + value.method()->name + ">", true);
    case Value::Kind::kFunction:
      return out.append("<function>", true);
  }
}

}  // namespace

std::string int_repr(Int value) {
  if (value == 0) return "0";
  __extension__ typedef unsigned __int128 Unsigned;
  Unsigned rest = value < 0 ? -static_cast<Unsigned>(value) : static_cast<Unsigned>(value);
  std::string out;
  for (; rest != 0; rest /= 10) out.push_back(static_cast<char>('0' + static_cast<int>(rest % 10)));
  if (value < 0) out.push_back('-');
  std::reverse(out.begin(), out.end());
  return out;
}

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[64];
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  const std::string_view text(buffer, static_cast<size_t>(result.ptr - buffer));
  const bool negative = text.front() == '-';
  const size_t e = text.find('e');
  std::string digits;
  for (const char c : text.substr(0, e)) {
    if (c >= '0' && c <= '9') digits.push_back(c);
  }
  int exponent = 0;
  const char* exponent_at = text.data() + e + (text[e + 1] == '+' ? 2 : 1);
  std::from_chars(exponent_at, text.data() + text.size(), exponent);
  std::string out;
  if (exponent < -4 || exponent >= 16) {
    out = digits.substr(0, 1);
    if (digits.size() > 1) out += "." + digits.substr(1);
    char tail[16];
    std::snprintf(tail, sizeof tail, "e%c%02d", exponent < 0 ? '-' : '+', std::abs(exponent));
    out += tail;
  } else if (exponent < 0) {
    out = "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  } else {
    const size_t whole = static_cast<size_t>(exponent) + 1;
    if (digits.size() < whole) digits.append(whole - digits.size(), '0');
    out = digits.substr(0, whole) + "." + (digits.size() > whole ? digits.substr(whole) : "0");
  }
  return negative ? "-" + out : out;
}

std::string string_repr(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const char32_t c = unicode::next(text, at);
    if (c == '\\' || c == static_cast<char32_t>(quote)) {
      out.push_back('\\');
      out.push_back(static_cast<char>(c));
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (unicode::is_printable(c)) {
      out += text.substr(begin, at - begin);
    } else {
      char escape[16];
      std::snprintf(escape, sizeof escape,
                    c <= 0xFF     ? "\\x%02x"
                    : c <= 0xFFFF ? "\\u%04x"
                                  : "\\U%08x",
                    static_cast<unsigned>(c));
      out += escape;
    }
  }
  out.push_back(quote);
  return out;
}

Text to_text(const Value& value) {
  if (value.is_string()) return value.text();
  if (value.is_undefined()) return Text();
  return repr(value);
}

Text repr(const Value& value) {
  Text out;
  append_repr(value, out);
  if (out.from_template() || value.depth() == 0) return out;
  return Text(out.bytes(), false);
}

}  // namespace gantry::jinja

#include "chat/python_format.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "chat/jinja_access.h"
#include "chat/jinja_error.h"
#include "chat/jinja_operators.h"
#include "chat/jinja_unicode.h"
#include "chat/python_repr.h"

namespace gantry::jinja {
namespace {

constexpr int kWidthMax = 10'000;     // of a formatted field
constexpr int kPrecisionMax = 1'000;  // digits of a formatted float

struct FieldSpec {
  std::string fill = " ";
  char align = 0;  // < > ^ =
  char sign = '-';
  bool alternate = false;
  bool zero = false;
  int width = 0;
  bool comma = false;
  bool underscore = false;
  int precision = -1;
  char type = 0;
};

int read_number(std::string_view spec, size_t& i, int limit, const char* what) {
  int number = 0;
  while (i < spec.size() && spec[i] >= '0' && spec[i] <= '9') {
    number = number * 10 + (spec[i++] - '0');
    if (number > limit) fail(std::string(what) + " of a format is larger than " + std::to_string(limit));
  }
  return number;
}

std::string digits_of(Int value, int base, bool upper) {
  __extension__ typedef unsigned __int128 Unsigned;
  // A named view: g++ 12 under -fsanitize=bounds gets the index of a literal chosen by ?: wrong.
  const std::string_view digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
  auto rest = static_cast<Unsigned>(value);
  if (value < 0) rest = -rest;
  const auto radix = static_cast<Unsigned>(base);
  std::string out;
  do {
    out.push_back(digits[static_cast<size_t>(rest % radix)]);
    rest /= radix;
  } while (rest != 0);
  std::reverse(out.begin(), out.end());
  return out;
}

std::string print_float(double value, char type, int precision, bool alternate) {
  std::array<char, 2048> buffer;
  int n = 0;
  switch (type) {
    case 'e':
      n = std::snprintf(buffer.data(), buffer.size(), alternate ? "%#.*e" : "%.*e", precision, value);
      break;
    case 'E':
      n = std::snprintf(buffer.data(), buffer.size(), alternate ? "%#.*E" : "%.*E", precision, value);
      break;
    case 'g':
      n = std::snprintf(buffer.data(), buffer.size(), alternate ? "%#.*g" : "%.*g", precision, value);
      break;
    case 'G':
      n = std::snprintf(buffer.data(), buffer.size(), alternate ? "%#.*G" : "%.*G", precision, value);
      break;
    default:
      n = std::snprintf(buffer.data(), buffer.size(), alternate ? "%#.*f" : "%.*f", precision, value);
  }
  return std::string(buffer.data(), std::min(static_cast<size_t>(std::max(n, 0)), buffer.size() - 1));
}

// Puts `separator` between groups of three digits of the whole part.
std::string group(const std::string& digits, char separator) {
  size_t whole = 0;
  while (whole < digits.size() && digits[whole] >= '0' && digits[whole] <= '9') ++whole;
  std::string out;
  for (size_t i = 0; i < whole; ++i) {
    if (i > 0 && (whole - i) % 3 == 0) out.push_back(separator);
    out.push_back(digits[i]);
  }
  return out + digits.substr(whole);
}

std::string sign_of(bool negative, char sign) {
  if (negative) return "-";
  return sign == '+' ? "+" : sign == ' ' ? " " : "";
}

std::string float_body(double value, char type, const FieldSpec& spec) {
  const double magnitude = std::fabs(value);
  const bool upper = type == 'E' || type == 'G' || type == 'F';
  if (std::isnan(value)) return upper ? "NAN" : "nan";
  if (std::isinf(value)) return upper ? "INF" : "inf";
  const int precision = spec.precision < 0 ? 6 : spec.precision;
  if (type == '%') return print_float(magnitude * 100, 'f', precision, spec.alternate) + "%";
  if (type == 0) {
    if (spec.precision < 0) return float_repr(magnitude);
    std::string out = print_float(magnitude, 'g', std::max(precision, 1), false);
    if (out.find_first_of(".e") == std::string::npos) out += ".0";
    return out;
  }
  return print_float(magnitude, type, type == 'g' || type == 'G' ? std::max(precision, 1) : precision,
                     spec.alternate);
}

Text pad(const Text& body, std::string_view sign, const FieldSpec& spec, char default_align) {
  const auto size = static_cast<int>(sign.size() + unicode::length(body.view()));
  const int missing = std::max(spec.width - size, 0);
  const char align = spec.align != 0 ? spec.align : default_align;
  const int left = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  Text out;
  const auto fill = [&](int count) {
    for (int i = 0; i < count; ++i) out.append(spec.fill, true);
  };
  if (align == '=') out.append(sign, true);
  fill(left);
  if (align != '=') out.append(sign, true);
  out.append(body);
  fill(missing - left);
  return out;
}

Text format_number(const Value& value, const FieldSpec& spec) {
  std::string body;
  bool negative = false;
  const bool float_type =
      spec.type != 0 && std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos;
  if (value.kind() == Value::Kind::kFloat || float_type) {
    const double number = value.as_double();
    negative = std::signbit(number) && !std::isnan(number);
    body = float_body(number, spec.type, spec);
  } else {
    const Int number = value.as_int();
    negative = number < 0;
    const char type = spec.type == 0 || spec.type == 'n' ? 'd' : spec.type;
    const int base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
    if (base == 10 && type != 'd') {
      fail(std::string("Unknown format code '") + spec.type + "' for object of type 'int'");
    }
    body = base == 10 ? int_repr(number) : digits_of(number, base, type == 'X');
    if (base == 10 && negative) body.erase(0, 1);
    if (spec.alternate && base != 10) body = std::string("0") + type + body;
  }
  if (spec.comma || spec.underscore) body = group(body, spec.comma ? ',' : '_');
  FieldSpec padding = spec;
  if (spec.zero && spec.align == 0) {
    padding.align = '=';
    padding.fill = "0";
  }
  return pad(Text(body, true), sign_of(negative, spec.sign), padding, '>');
}

FieldSpec parse_spec(std::string_view text) {
  FieldSpec spec;
  size_t i = 0;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  size_t after_fill = 0;
  if (!text.empty()) unicode::next(text, after_fill);
  if (after_fill < text.size() && is_align(text[after_fill])) {
    spec.fill = std::string(text.substr(0, after_fill));
    spec.align = text[after_fill];
    i = after_fill + 1;
  } else if (!text.empty() && is_align(text[0])) {
    spec.align = text[i++];
  }
  const auto take = [&](char c) {
    if (i >= text.size() || text[i] != c) return false;
    ++i;
    return true;
  };
  if (take('+')) {
    spec.sign = '+';
  } else if (take(' ')) {
    spec.sign = ' ';
  } else {
    take('-');
  }
  spec.alternate = take('#');
  spec.zero = take('0');
  spec.width = read_number(text, i, kWidthMax, "the width");
  spec.comma = take(',');
  spec.underscore = take('_');
  if (take('.')) {
    const size_t before = i;
    spec.precision = read_number(text, i, kPrecisionMax, "the precision");
    if (i == before) fail("Format specifier missing precision");
  }
  if (i < text.size()) spec.type = text[i++];
  if (i < text.size()) fail("Invalid format specifier");
  return spec;
}

Text format_value(Interpreter& interpreter, const Value& value, std::string_view spec_text) {
  if (spec_text.empty()) return interpreter.text_of(value);
  const FieldSpec spec = parse_spec(spec_text);
  interpreter.charge(static_cast<uint64_t>(spec.width / 32 + 4));
  if (value.is_string()) {
    if (spec.type != 0 && spec.type != 's') {
      fail(std::string("Unknown format code '") + spec.type + "' for object of type 'str'");
    }
    Text body = value.text();
    if (spec.precision >= 0) {
      body = body.slice(0, unicode::byte_offset(body.view(), static_cast<size_t>(spec.precision)));
    }
    return pad(body, "", spec, '<');
  }
  if (value.is_numeric()) return format_number(value, spec);
  fail("unsupported format string passed to " + std::string(value.type_name()) + ".__format__");
}

// The value of "name.key[0]" among the arguments.
Value resolve_field(Interpreter& interpreter, std::string_view field, const Arguments& arguments,
                    size_t& automatic) {
  const size_t name_end = std::min(field.find_first_of(".["), field.size());
  const std::string_view name = field.substr(0, name_end);
  Value value;
  const auto position = [&](size_t index) {
    if (index >= arguments.positional.size()) {
      fail("tuple index out of range");
    }
    return arguments.positional[index];
  };
  if (name.empty()) {
    value = position(automatic++);
  } else if (name.find_first_not_of("0123456789") == std::string_view::npos) {
    size_t i = 0;
    value = position(static_cast<size_t>(read_number(name, i, 1'000'000, "the index")));
  } else {
    interpreter.charge(arguments.named.size() / 8);
    const auto it = std::find_if(arguments.named.begin(), arguments.named.end(),
                                 [&](const auto& entry) { return entry.first == name; });
    if (it == arguments.named.end()) fail(string_repr(name));
    value = it->second;
  }
  for (size_t i = name_end; i < field.size();) {
    if (field[i] == '.') {
      const size_t end = std::min(field.find_first_of(".[", i + 1), field.size());
      value =
          get_attribute(interpreter, value, Value::literal(std::string(field.substr(i + 1, end - i - 1))));
      i = end;
    } else if (field[i] == '[') {
      const size_t end = field.find(']', i);
      if (end == std::string_view::npos) fail("Missing ']' in format string");
      const std::string_view key = field.substr(i + 1, end - i - 1);
      const auto index = parse_int(key, 10);
      value = get_item(interpreter, value, index ? Value::integer(*index) : Value::literal(std::string(key)));
      i = end + 1;
    } else {
      fail("Only '.' or '[' may follow ']' in format field specifier");
    }
  }
  return value;
}

// What "%c" prints of a code point or of a string of one.
Text one_character(const Value& value) {
  if (value.is_string() && unicode::length(value.view()) == 1) return value.text();
  if (!value.is_integral()) fail("%c requires int or char");
  const Int code = value.as_int();
  if (code < 0 || code > 0x10FFFF) fail("%c arg not in range(0x110000)");
  if (code >= 0xD800 && code < 0xE000) refuse("a surrogate code point");
  std::string out;
  unicode::append(out, static_cast<char32_t>(code));
  return Text(out, true);
}

}  // namespace

Text format_braces(Interpreter& interpreter, const Value& format, const Arguments& arguments) {
  const std::string_view text = format.view();
  Text out;
  size_t automatic = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t brace = std::min(text.find_first_of("{}", i), text.size());
    out.append_slice(format.text(), i, brace);
    if (brace == text.size()) break;
    if (brace + 1 < text.size() && text[brace + 1] == text[brace]) {
      out.append_slice(format.text(), brace, brace + 1);
      i = brace + 2;
      continue;
    }
    if (text[brace] == '}') fail("Single '}' encountered in format string");
    const size_t end = text.find('}', brace);
    if (end == std::string_view::npos) {
      fail(brace + 1 == text.size() ? "Single '{' encountered in format string"
                                    : "expected '}' before end of string");
    }
    std::string_view field = text.substr(brace + 1, end - brace - 1);
    if (field.find('{') != std::string_view::npos) refuse("a format field inside a format field");
    std::string_view spec;
    if (const size_t colon = field.find(':'); colon != std::string_view::npos) {
      spec = field.substr(colon + 1);
      field = field.substr(0, colon);
    }
    char conversion = 0;
    if (const size_t mark = field.find('!'); mark != std::string_view::npos) {
      if (mark + 2 != field.size()) fail("expected ':' after conversion specifier");
      conversion = field[mark + 1];
      field = field.substr(0, mark);
    }
    Value value = resolve_field(interpreter, field, arguments, automatic);
    if (conversion == 'r') {
      interpreter.charge(4 * value.weight());
      value = interpreter.make_string(repr(value));
    } else if (conversion == 's') {
      value = interpreter.make_string(interpreter.text_of(value));
    } else if (conversion != 0) {
      fail(std::string("Unknown conversion specifier '") + conversion + "'");
    }
    const Text part = format_value(interpreter, value, spec);
    interpreter.charge_text(part);
    out.append(format.is_markup() ? escape_html(Value::string(part)) : part);
    i = end + 1;
  }
  return out;
}

Text format_percent(Interpreter& interpreter, const Value& format, const Value& arguments) {
  const std::string_view text = format.view();
  const bool is_tuple = arguments.is_sequence() && arguments.sequence()->type == SequenceType::kTuple;
  const std::vector<Value> values = is_tuple ? arguments.sequence()->items : std::vector<Value>{arguments};
  size_t used = 0;
  bool by_name = false;
  Text out;
  for (size_t i = 0; i < text.size();) {
    const size_t percent = std::min(text.find('%', i), text.size());
    out.append_slice(format.text(), i, percent);
    if (percent == text.size()) break;
    i = percent + 1;
    FieldSpec spec;
    Value value;
    bool named = false;
    if (i < text.size() && text[i] == '(') {
      const size_t end = text.find(')', i);
      if (end == std::string_view::npos) fail("incomplete format key");
      if (!arguments.is_dict()) fail("format requires a mapping");
      const Value* found = arguments.dict()->find(text.substr(i + 1, end - i - 1));
      if (found == nullptr) fail(string_repr(text.substr(i + 1, end - i - 1)));
      value = *found;
      named = by_name = true;
      i = end + 1;
    }
    char align = '>';
    for (; i < text.size() && std::string_view("-+ 0#").find(text[i]) != std::string_view::npos; ++i) {
      if (text[i] == '-') align = '<';
      if (text[i] == '+') spec.sign = '+';
      if (text[i] == ' ' && spec.sign != '+') spec.sign = ' ';
      if (text[i] == '0') spec.zero = true;
      if (text[i] == '#') spec.alternate = true;
    }
    if (i < text.size() && text[i] == '*') refuse("'*' in a % format");
    spec.width = read_number(text, i, kWidthMax, "the width");
    if (i < text.size() && text[i] == '.') {
      ++i;
      spec.precision = read_number(text, i, kPrecisionMax, "the precision");
    }
    if (i >= text.size()) fail("incomplete format");
    const char type = text[i++];
    if (type == '%') {
      out.append_slice(format.text(), i - 1, i);
      continue;
    }
    if (!named) {
      if (used >= values.size()) fail("not enough arguments for format string");
      value = values[used++];
    }
    interpreter.charge(static_cast<uint64_t>(spec.width / 32 + 4));
    if (align == '<') {
      spec.align = '<';
      spec.zero = false;
    }
    Text part;
    if (type == 's' || type == 'r') {
      interpreter.charge(4 * value.weight());
      part = type == 's' ? to_text(value) : repr(value);
      if (format.is_markup()) part = escape_html(Value::string(part, value.is_markup()));
      if (spec.precision >= 0) {
        part = part.slice(0, unicode::byte_offset(part.view(), static_cast<size_t>(spec.precision)));
      }
      part = pad(part, "", spec, '>');
    } else if (std::string_view("diuxXoeEfFgG").find(type) != std::string_view::npos) {
      if (value.is_undefined()) fail(value.as_undefined().message);
      if (!value.is_numeric()) {
        const bool real = std::string_view("eEfFgG").find(type) != std::string_view::npos;
        fail(real ? "must be real number, not " + std::string(value.type_name())
                  : std::string("%") + type + " format: a real number is required, not " +
                        std::string(value.type_name()));
      }
      const bool whole = type == 'd' || type == 'i' || type == 'u';
      if (whole && value.kind() == Value::Kind::kFloat)
        value = Value::integer(truncate_to_int(value.as_double()));
      spec.type = whole ? 'd' : type;
      part = format_number(value, spec);
    } else if (type == 'c') {
      part = pad(one_character(value), "", spec, '>');
    } else {
      fail(std::string("unsupported format character '") + type + "' (0x" +
           digits_of(static_cast<unsigned char>(type), 16, false) + ") at index " + std::to_string(i - 1));
    }
    interpreter.charge_text(part);
    out.append(part);
  }
  if (!by_name && used < values.size() && !arguments.is_dict() &&
      !(arguments.is_sequence() && arguments.sequence()->type == SequenceType::kList)) {
    fail("not all arguments converted during string formatting");
  }
  return out;
}

std::optional<Int> parse_int(std::string_view text, int base) {
  size_t begin = 0;
  size_t end = text.size();
  for (size_t at = begin; at < end; begin = at) {
    if (!unicode::is_space(unicode::next(text, at))) break;
  }
  while (end > begin) {
    size_t at = unicode::previous_start(text, end);
    const size_t start = at;
    if (!unicode::is_space(unicode::next(text, at))) break;
    end = start;
  }
  text = text.substr(begin, end - begin);
  bool negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  const auto prefixed = [&](char mark) {
    return text.size() > 2 && text[0] == '0' && (text[1] | 0x20) == mark;
  };
  const int prefix_base = prefixed('x') ? 16 : prefixed('o') ? 8 : prefixed('b') ? 2 : 0;
  if (prefix_base != 0 && (base == 0 || base == prefix_base)) {
    base = prefix_base;
    text.remove_prefix(2);
    if (text[0] == '_') text.remove_prefix(1);
  }
  if (base == 0) base = 10;
  if (text.empty() || text.front() == '_' || text.back() == '_') return std::nullopt;
  Int value = 0;
  bool last_underscore = false;
  for (const char c : text) {
    if (c == '_') {
      if (last_underscore) return std::nullopt;
      last_underscore = true;
      continue;
    }
    last_underscore = false;
    const char lower = static_cast<char>(c | 0x20);
    const int digit = c >= '0' && c <= '9' ? c - '0' : lower >= 'a' && lower <= 'z' ? lower - 'a' + 10 : 99;
    if (digit >= base) return std::nullopt;
    if (__builtin_mul_overflow(value, static_cast<Int>(base), &value) ||
        __builtin_add_overflow(value, static_cast<Int>(digit), &value)) {
      fail("an integer needs more than 128 bits");
    }
  }
  return negative ? -value : value;
}

std::optional<double> parse_float(std::string_view text) {
  std::string clean;
  bool space_after = false;
  char last = 0;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = unicode::next(text, at);
    if (unicode::is_space(c)) {
      space_after = !clean.empty();
      continue;
    }
    if (space_after || c > 0x7E) return std::nullopt;
    const bool is_digit = c >= '0' && c <= '9';
    if (last == '_' && !is_digit) return std::nullopt;
    if (c == '_') {
      if (last < '0' || last > '9') return std::nullopt;
    } else {
      clean.push_back(static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c));
    }
    last = static_cast<char>(c);
  }
  if (clean.empty() || last == '_') return std::nullopt;
  const std::string body = clean[0] == '+' || clean[0] == '-' ? clean.substr(1) : clean;
  const bool word = body == "inf" || body == "infinity" || body == "nan";
  if (!word && body.find_first_not_of("0123456789.e+-") != std::string::npos) return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(clean.c_str(), &end);
  if (end != clean.c_str() + clean.size()) return std::nullopt;
  return value;
}

double round_half_even(double value, int digits) {
  if (!std::isfinite(value)) return value;
  if (digits > 300) return value;
  if (digits < 0) {
    if (digits < -300) return std::copysign(0.0, value);
    const double scale = std::pow(10.0, -digits);
    return std::nearbyint(value / scale) * scale;
  }
  // printf rounds the exact binary value, half to even: what Python's round does.
  return std::strtod(print_float(value, 'f', digits, false).c_str(), nullptr);
}

Int truncate_to_int(double value) {
  if (std::isnan(value)) fail("cannot convert float NaN to integer");
  if (std::isinf(value)) fail("cannot convert float infinity to integer");
  if (std::fabs(value) >= 0x1p126) fail("an integer needs more than 128 bits");
  return static_cast<Int>(value);
}

}  // namespace gantry::jinja

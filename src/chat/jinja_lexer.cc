#include "chat/jinja_lexer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <optional>
#include <utility>

#include "chat/jinja_error.h"
#include "chat/jinja_unicode.h"
#include "chat/python_repr.h"

namespace gantry::jinja {
namespace {

constexpr std::array<std::string_view, 25> kOperators = {"==", "!=", ">=", "<=", "//", "**", "+", "-", "/",
                                                         "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                         ">",  "<",  "=",  ".",  ":",  "|",  ","};

// Line breaks as "\n", and without the last one (keep_trailing_newline is off).
std::string normalize(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out.push_back('\n');
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out.push_back(source[i]);
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

bool is_ascii_digit(char c) { return c >= '0' && c <= '9'; }

int digit_value(char c) {
  if (is_ascii_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'z') return c - 'a' + 10;
  if (c >= 'A' && c <= 'Z') return c - 'A' + 10;
  return 99;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalize(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) lex_data();
    push(TokenType::kEof);
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void error(const std::string& message) const {
    fail("line " + std::to_string(line_) + ": " + message);
  }

  [[noreturn]] void unexpected_char() const {
    size_t end = at_;
    unicode::next(source_, end);
    error("unexpected char " + string_repr(source_.substr(at_, end - at_)) + " at " +
          std::to_string(unicode::length(std::string_view(source_).substr(0, at_))));
  }

  void push(TokenType type, std::string text = {}) {
    Token token;
    token.type = type;
    token.line = line_;
    token.text = std::move(text);
    tokens_.push_back(std::move(token));
  }

  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  bool looking_at(std::string_view what) const { return rest().substr(0, what.size()) == what; }

  void advance(size_t bytes) {
    const auto part = rest().substr(0, bytes);
    line_ += static_cast<int>(std::count(part.begin(), part.end(), '\n'));
    at_ += bytes;
  }

  void skip_space() {
    while (at_ < source_.size()) {
      size_t end = at_;
      if (!unicode::is_space(unicode::next(source_, end))) break;
      advance(end - at_);
    }
  }

  // Literal text up to the next tag, then the tag.
  void lex_data() {
    size_t open = at_;
    while (open + 1 < source_.size() &&
           !(source_[open] == '{' &&
             (source_[open + 1] == '{' || source_[open + 1] == '%' || source_[open + 1] == '#'))) {
      ++open;
    }
    if (open + 1 >= source_.size()) {
      push(TokenType::kData, std::string(rest()));
      advance(source_.size() - at_);
      return;
    }
    const char kind = source_[open + 1];
    const size_t sign_at = open + 2;
    const char sign = sign_at < source_.size() && (source_[sign_at] == '-' || source_[sign_at] == '+')
                          ? source_[sign_at]
                          : 0;
    emit_data(open, sign, kind != '{');
    advance(open + 2 + (sign != 0 ? 1 : 0) - at_);
    line_starting_ = false;
    if (kind == '#') return lex_comment();
    if (kind == '{') {
      push(TokenType::kVariableBegin);
      return lex_code(TokenType::kVariableEnd, "}}");
    }
    if (const auto body = raw_tag_bytes("raw")) return lex_raw(*body);
    push(TokenType::kBlockBegin);
    lex_code(TokenType::kBlockEnd, "%}");
  }

  // The text [at_, end) in front of a tag, after what its sign or lstrip_blocks takes away.
  void emit_data(size_t end, char sign, bool lstrip) {
    std::string_view text = std::string_view(source_).substr(at_, end - at_);
    if (sign == '-') {
      while (!text.empty()) {
        const size_t start = unicode::previous_start(text, text.size());
        size_t copy = start;
        if (!unicode::is_space(unicode::next(text, copy))) break;
        text = text.substr(0, start);
      }
    } else if (sign != '+' && lstrip) {
      const size_t break_at = text.rfind('\n');
      const size_t line_at = break_at == std::string_view::npos ? 0 : break_at + 1;
      if (line_at > 0 || line_starting_) {
        bool blank = line_at < text.size();
        for (size_t i = line_at; blank && i < text.size();) blank = unicode::is_space(unicode::next(text, i));
        if (blank) text = text.substr(0, line_at);
      }
    }
    if (!text.empty()) push(TokenType::kData, std::string(text));
  }

  // After "%}", "#}" or the like: trim_blocks takes one line break, a minus all white space.
  void after_tag(char sign, bool trim) {
    line_starting_ = false;
    const size_t before = at_;
    if (sign == '-') {
      skip_space();
    } else if (trim && sign != '+' && looking_at("\n")) {
      advance(1);
    }
    if (at_ > before) line_starting_ = source_[at_ - 1] == '\n';
  }

  void lex_comment() {
    const size_t close = source_.find("#}", at_);
    if (close == std::string::npos) error("Missing end of comment tag");
    const char sign =
        close > at_ && (source_[close - 1] == '-' || source_[close - 1] == '+') ? source_[close - 1] : 0;
    advance(close + 2 - at_);
    after_tag(sign, true);
  }

  // At what follows "{%" or "{%-": the bytes of `\s*NAME\s*-?%}`, if that is what stands here.
  std::optional<size_t> raw_tag_bytes(std::string_view name) const {
    size_t i = at_;
    const auto skip = [&] {
      while (i < source_.size()) {
        size_t end = i;
        if (!unicode::is_space(unicode::next(source_, end))) break;
        i = end;
      }
    };
    skip();
    if (source_.compare(i, name.size(), name) != 0) return std::nullopt;
    i += name.size();
    skip();
    if (i < source_.size() && (source_[i] == '-' || (source_[i] == '+' && name == "endraw"))) ++i;
    if (source_.compare(i, 2, "%}") != 0) return std::nullopt;
    return i + 2 - at_;
  }

  void lex_raw(size_t tag_bytes) {
    const char sign = source_[at_ + tag_bytes - 3];
    advance(tag_bytes);
    // "{% raw %}" keeps the line break after it; only a minus takes white space.
    after_tag(sign == '-' ? '-' : 0, false);
    for (size_t open = source_.find("{%", at_); open != std::string::npos;
         open = source_.find("{%", open + 2)) {
      const size_t saved = at_;
      size_t name_at = open + 2;
      const char open_sign = name_at < source_.size() && (source_[name_at] == '-' || source_[name_at] == '+')
                                 ? source_[name_at]
                                 : 0;
      if (open_sign != 0) ++name_at;
      at_ = name_at;
      const auto end_bytes = raw_tag_bytes("endraw");
      at_ = saved;
      if (!end_bytes) continue;
      emit_data(open, open_sign, true);
      const char close_sign = source_[name_at + *end_bytes - 3];
      advance(name_at + *end_bytes - at_);
      return after_tag(close_sign, true);
    }
    error("Missing end of raw directive");
  }

  void lex_code(TokenType end_type, std::string_view end) {
    std::string closers;  // of the brackets open here
    while (true) {
      if (closers.empty()) {
        const bool is_block = end_type == TokenType::kBlockEnd;
        const bool has_sign =
            (looking_at("-") || (is_block && looking_at("+"))) && rest().substr(1, 2) == end;
        if (has_sign || looking_at(end)) {
          const char sign = has_sign ? source_[at_] : 0;
          push(end_type);
          advance(has_sign ? 3 : 2);
          return after_tag(sign, is_block);
        }
      }
      const size_t before = at_;
      skip_space();
      if (at_ > before) continue;
      if (at_ >= source_.size()) return;  // the parser says what is missing
      lex_token(closers);
    }
  }

  void lex_token(std::string& closers) {
    const char c = source_[at_];
    if (is_ascii_digit(c)) return lex_number();
    if (c == '"' || c == '\'') return lex_string();
    size_t end = at_;
    if (unicode::is_identifier_start(unicode::next(source_, end))) {
      for (size_t probe = end; probe < source_.size();) {
        if (!unicode::is_identifier_part(unicode::next(source_, probe))) break;
        end = probe;
      }
      push(TokenType::kName, source_.substr(at_, end - at_));
      return advance(end - at_);
    }
    for (const auto op : kOperators) {
      if (!looking_at(op)) continue;
      if (op == "{" || op == "(" || op == "[") {
        closers.push_back(op == "{" ? '}' : op == "(" ? ')' : ']');
      } else if (op == "}" || op == ")" || op == "]") {
        if (closers.empty()) error("unexpected '" + std::string(op) + "'");
        const char expected = closers.back();
        closers.pop_back();
        if (expected != op[0]) {
          error("unexpected '" + std::string(op) + "', expected '" + std::string(1, expected) + "'");
        }
      }
      push(TokenType::kOperator, std::string(op));
      return advance(op.size());
    }
    unexpected_char();
  }

  // Digits of `base` with single underscores between them, from `i`; empty if there is none.
  std::string digits(size_t& i, int base, bool leading_underscore) const {
    std::string out;
    while (i < source_.size()) {
      size_t j = i;
      if (source_[j] == '_' && (!out.empty() || leading_underscore)) ++j;
      if (j >= source_.size() || digit_value(source_[j]) >= base) break;
      out.push_back(source_[j]);
      i = j + 1;
    }
    return out;
  }

  void lex_number() {
    size_t i = at_;
    int base = 10;
    if (source_[i] == '0' && i + 1 < source_.size()) {
      const char mark = static_cast<char>(source_[i + 1] | 0x20);
      base = mark == 'b' ? 2 : mark == 'o' ? 8 : mark == 'x' ? 16 : 10;
    }
    if (base != 10) {
      size_t j = i + 2;
      const std::string text = digits(j, base, true);
      if (!text.empty()) return push_integer(text, base, j);
      base = 10;
    }
    std::string text = digits(i, 10, false);
    std::string number = text;
    bool is_float = false;
    const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';  // x.0.1 is two subscripts
    if (!after_dot && i + 1 < source_.size() && source_[i] == '.' && is_ascii_digit(source_[i + 1])) {
      size_t j = i + 1;
      number += "." + digits(j, 10, false);
      i = j;
      is_float = true;
    }
    if (!after_dot && i < source_.size() && (source_[i] | 0x20) == 'e') {
      size_t j = i + 1;
      std::string exponent = "e";
      if (j < source_.size() && (source_[j] == '+' || source_[j] == '-')) exponent.push_back(source_[j++]);
      const std::string value = digits(j, 10, false);
      if (!value.empty()) {
        number += exponent + value;
        i = j;
        is_float = true;
      }
    }
    if (!is_float) {
      // Jinja's rule: a zero, or no leading zero; "01" is the two tokens 0 and 1.
      if (text.size() > 1 && text[0] == '0' && text.find_first_not_of('0') != std::string::npos) {
        return push_integer("0", 10, at_ + 1);
      }
      return push_integer(text, 10, i);
    }
    push(TokenType::kFloat);
    Token& token = tokens_.back();
    const auto result = std::from_chars(number.data(), number.data() + number.size(), token.number);
    if (result.ec == std::errc::result_out_of_range) {
      // As Python reads it: too small is zero, too big is infinite.
      token.number = number.find("e-") != std::string::npos ? 0.0 : std::numeric_limits<double>::infinity();
    }
    advance(i - at_);
  }

  void push_integer(const std::string& text, int base, size_t end) {
    Int value = 0;
    for (const char c : text) {
      if (__builtin_mul_overflow(value, static_cast<Int>(base), &value) ||
          __builtin_add_overflow(value, static_cast<Int>(digit_value(c)), &value)) {
        error("integer " + text + " needs more than 128 bits");
      }
    }
    push(TokenType::kInteger, text);
    tokens_.back().integer = value;
    advance(end - at_);
  }

  void lex_string() {
    const char quote = source_[at_];
    size_t i = at_ + 1;
    while (i < source_.size() && source_[i] != quote) i += source_[i] == '\\' ? 2 : 1;
    if (i >= source_.size()) unexpected_char();
    push(TokenType::kString, unescape(std::string_view(source_).substr(at_ + 1, i - at_ - 1)));
    advance(i + 1 - at_);
  }

  std::string unescape(std::string_view body) const {
    std::string out;
    out.reserve(body.size());
    for (size_t i = 0; i < body.size();) {
      if (body[i] != '\\') {
        out.push_back(body[i++]);
        continue;
      }
      const char c = body[i + 1];
      i += 2;
      constexpr std::string_view kFrom = "\\'\"abfnrtv";
      constexpr std::string_view kTo = "\\'\"\a\b\f\n\r\t\v";
      if (const size_t k = kFrom.find(c); k != std::string_view::npos) {
        out.push_back(kTo[k]);
      } else if (c == '\n') {
        continue;  // a line break after a backslash joins the lines
      } else if (c >= '0' && c <= '7') {
        char32_t code = static_cast<char32_t>(c - '0');
        for (int n = 0; n < 2 && i < body.size() && body[i] >= '0' && body[i] <= '7'; ++n) {
          code = code * 8 + static_cast<char32_t>(body[i++] - '0');
        }
        unicode::append(out, code);
      } else if (c == 'x' || c == 'u' || c == 'U') {
        append_hex(out, body, i, c);
      } else {
        if (c == 'N') error("\\N{...} in a string is not supported: write the character itself");
        out.push_back('\\');
        out.push_back(c);
      }
    }
    return out;
  }

  void append_hex(std::string& out, std::string_view body, size_t& i, char kind) const {
    const size_t count = kind == 'x' ? 2 : kind == 'u' ? 4 : 8;
    const auto hex = [&](size_t from) {
      char32_t code = 0;
      for (size_t k = 0; k < count; ++k) {
        const int d = from + k < body.size() ? digit_value(body[from + k]) : 99;
        if (d >= 16) error(std::string("truncated \\") + kind + " escape in a string");
        code = code * 16 + static_cast<char32_t>(d);
      }
      return code;
    };
    const char32_t code = hex(i);
    i += count;
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
      error(std::string("the escape \\") + kind + " in a string is no Unicode scalar value");
    }
    unicode::append(out, code);
  }

  std::string source_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;  // the last tag ended with a line break, or there was none
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace gantry::jinja

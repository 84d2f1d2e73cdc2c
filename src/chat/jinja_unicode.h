// What Python's str knows about code points. Case and category come from utf8proc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace gantry::jinja::unicode {

// True for well-formed UTF-8 (no overlong form, no surrogate, at most U+10FFFF).
bool is_valid_utf8(std::string_view text);

// The code point at `at` of well-formed text; moves `at` past it. A byte that starts none counts as U+FFFD.
char32_t next(std::string_view text, size_t& at);
// The start of the code point that ends before `at` (at > 0).
size_t previous_start(std::string_view text, size_t at);
void append(std::string& out, char32_t code);
// Number of code points.
size_t length(std::string_view text);
// Byte offset of code point number `index`, at most text.size().
size_t byte_offset(std::string_view text, size_t index);

bool is_space(char32_t c);       // str.isspace, and \s of a regular expression
bool is_line_break(char32_t c);  // a boundary of str.splitlines
bool is_printable(char32_t c);   // not escaped by repr()
bool is_alpha(char32_t c);
bool is_decimal(char32_t c);  // str.isdecimal: general category Nd
bool is_digit(char32_t c);    // str.isdigit: decimals, and superscripts and the like
bool is_numeric(char32_t c);  // str.isnumeric
bool is_upper(char32_t c);
bool is_lower(char32_t c);
bool is_cased(char32_t c);
bool is_identifier_start(char32_t c);
bool is_identifier_part(char32_t c);

// Full case mappings of one string, as str.upper, str.lower, str.capitalize and str.title give.
std::string upper(std::string_view text);
std::string lower(std::string_view text);
// The lower case of the code point at [begin, end) of `text`; a sigma depends on its neighbours.
std::string lower_at(std::string_view text, size_t begin, size_t end);
void append_upper(std::string& out, char32_t c);
void append_title(std::string& out, char32_t c);
void append_lower(std::string& out, char32_t c);

}  // namespace gantry::jinja::unicode

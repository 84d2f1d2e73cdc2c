// Jinja source to tokens, with the white space control of trim_blocks and lstrip_blocks already applied
// (jinja2/lexer.py, version 3.1).
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "chat/jinja_value.h"

namespace gantry::jinja {

enum class TokenType {
  kData,           // literal text of the template
  kVariableBegin,  // {{
  kVariableEnd,    // }}
  kBlockBegin,     // {%
  kBlockEnd,       // %}
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,  // text is the operator
  kEof,
};

struct Token {
  TokenType type = TokenType::kEof;
  int line = 0;      // from 1
  std::string text;  // data, name, operator, or the unescaped string
  Int integer = 0;
  double number = 0;
};

// Throws Failure("line N: ..."). The source is well-formed UTF-8.
std::vector<Token> tokenize(std::string_view source);

}  // namespace gantry::jinja

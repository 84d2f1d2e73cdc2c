#include "chat/jinja_parser_base.h"

#include <utility>

#include "base/limits.h"
#include "chat/jinja_error.h"
#include "chat/python_repr.h"

namespace gantry::jinja {

NameId Ast::intern(const std::string& name) {
  const auto [it, added] = name_ids.emplace(name, static_cast<NameId>(names.size()));
  if (added) {
    names.push_back(name);
    read.push_back(false);
    assigned.push_back(false);
  }
  return it->second;
}

bool ParserBase::skip_name(std::string_view word) {
  if (!is_name(word)) return false;
  advance();
  return true;
}

bool ParserBase::skip_operator(std::string_view op) {
  if (!is_operator(op)) return false;
  advance();
  return true;
}

void ParserBase::expect_operator(std::string_view op) {
  if (!skip_operator(op)) {
    error("expected token '" + std::string(op) + "', got " + string_repr(describe(current())));
  }
}

const Token& ParserBase::expect_name() { return expect(TokenType::kName); }

const Token& ParserBase::expect(TokenType type) {
  if (current().type == type) return advance();
  if (current().type == TokenType::kEof && type != TokenType::kName) {
    Token wanted;
    wanted.type = type;
    error("unexpected end of template, expected '" + describe(wanted) + "'.");
  }
  Token wanted;
  wanted.type = type;
  const std::string what = type == TokenType::kName ? "name" : describe(wanted);
  error("expected token '" + what + "', got " + string_repr(describe(current())));
}

void ParserBase::error(const std::string& message, int line) const {
  fail("line " + std::to_string(line) + ": " + message);
}

std::string ParserBase::describe(const Token& token) {
  switch (token.type) {
    case TokenType::kData:
      return "template data / text";
    case TokenType::kVariableBegin:
      return "begin of print statement";
    case TokenType::kVariableEnd:
      return "end of print statement";
    case TokenType::kBlockBegin:
      return "begin of statement block";
    case TokenType::kBlockEnd:
      return "end of statement block";
    case TokenType::kName:
    case TokenType::kOperator:
      return token.text;
    case TokenType::kString:
      return "string";
    case TokenType::kInteger:
      return "integer";
    case TokenType::kFloat:
      return "float";
    case TokenType::kEof:
      return "end of template";
  }
  return "";
}

Expr* ParserBase::make(Expr::Kind kind, int line, std::vector<const Expr*> items) {
  Expr& node = ast_.exprs.emplace_back();
  node.kind = kind;
  node.line = line;
  node.items = std::move(items);
  return &node;
}

ParserBase::Nesting::Nesting(ParserBase& parser) : parser_(parser) {
  if (++parser_.depth_ > limits::kTemplateDepthMax) {
    const int depth = parser_.depth_;
    --parser_.depth_;
    exhaust("line " + std::to_string(parser_.current().line) + ": the template is nested deeper than " +
            std::to_string(depth - 1));
  }
}

}  // namespace gantry::jinja

// The parts of the parser: token handling here, expressions and statements in a file each.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "chat/jinja_ast.h"
#include "chat/jinja_lexer.h"

namespace gantry::jinja {

class ParserBase {
 protected:
  ParserBase(std::vector<Token> tokens, Ast& ast) : tokens_(std::move(tokens)), ast_(ast) {}

  const Token& current() const { return tokens_[at_]; }
  const Token& look() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  const Token& advance() {
    const Token& token = tokens_[at_];
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool is_name(std::string_view word) const {
    return current().type == TokenType::kName && current().text == word;
  }
  bool is_operator(std::string_view op) const {
    return current().type == TokenType::kOperator && current().text == op;
  }
  bool skip_name(std::string_view word);
  bool skip_operator(std::string_view op);
  void expect_operator(std::string_view op);
  const Token& expect_name();
  const Token& expect(TokenType type);
  [[noreturn]] void error(const std::string& message, int line) const;
  [[noreturn]] void error(const std::string& message) const { error(message, current().line); }
  static std::string describe(const Token& token);

  Expr* make(Expr::Kind kind, int line, std::vector<const Expr*> items = {});

  // Counts the nesting of the recursive descent for as long as it lives.
  class Nesting {
   public:
    explicit Nesting(ParserBase& parser);
    ~Nesting() { --parser_.depth_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    ParserBase& parser_;
  };

  std::vector<Token> tokens_;
  size_t at_ = 0;
  Ast& ast_;
  int depth_ = 0;
};

class ExpressionParser : protected ParserBase {
 protected:
  using ParserBase::ParserBase;

  const Expr* parse_expression(bool with_inline_if = true);
  struct TupleOptions {
    bool simplified = false;  // names and literals only, as targets are
    bool with_inline_if = true;
    bool parentheses = false;     // an empty tuple is allowed
    bool with_namespace = false;  // "ns.x" is a target
    std::string_view end_name;    // this word ends the tuple
  };
  const Expr* parse_tuple(const TupleOptions& options);
  // A chain of filters behind `value`; `inline_start` if the first has no "|" in front.
  const Expr* parse_filters(const Expr* value, bool inline_start);
  const Expr* parse_target(bool with_namespace, std::string_view end_name = {});
  const Expr* parse_name_target();

  // Filters and tests that do not exist: an error of the whole template, unless an `if` may pass them by.
  struct UnknownCallable {
    std::string message;
    bool may_be_passed_by;
  };
  std::vector<UnknownCallable> unknown_;
  bool in_if_ = false;
  std::vector<std::pair<NameId, int>> called_;  // names that are called, with the line

 private:
  const Expr* parse_inline_if();
  const Expr* parse_or();
  const Expr* parse_and();
  const Expr* parse_not();
  const Expr* parse_compare();
  const Expr* parse_sum();
  const Expr* parse_concat();
  const Expr* parse_product();
  const Expr* parse_power();
  const Expr* parse_unary(bool with_filters = true);
  const Expr* parse_primary(bool with_namespace = false);
  const Expr* parse_list();
  const Expr* parse_dict();
  const Expr* parse_postfix(const Expr* node);
  const Expr* parse_filters_and_tests(const Expr* node);
  const Expr* parse_subscript(const Expr* node);
  const Expr* parse_subscribed(const Expr* object, int line, bool& is_slice);
  const Expr* parse_call(const Expr* callee);
  CallSyntax parse_call_arguments();
  const Expr* parse_test(const Expr* value);
  void set_target(const Expr* target);
  bool reading_ = true;  // false in an assignment's target
  void check_known(const Token& token, const std::string& name, bool is_filter);
};

}  // namespace gantry::jinja

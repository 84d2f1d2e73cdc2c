#include <array>
#include <utility>

#include "chat/jinja_error.h"
#include "chat/jinja_library.h"
#include "chat/jinja_parser_base.h"
#include "chat/python_repr.h"

namespace gantry::jinja {

const Expr* ExpressionParser::parse_expression(bool with_inline_if) {
  return with_inline_if ? parse_inline_if() : parse_or();
}

const Expr* ExpressionParser::parse_inline_if() {
  const Nesting nesting(*this);
  int line = current().line;
  const size_t unknown_before = unknown_.size();
  const Expr* value = parse_or();
  while (skip_name("if")) {
    const Expr* test = parse_or();
    const Expr* otherwise = skip_name("else") ? parse_inline_if() : nullptr;
    value = make(Expr::Kind::kInlineIf, line, {value, test, otherwise});
    for (size_t i = unknown_before; i < unknown_.size(); ++i) unknown_[i].may_be_passed_by = true;
    line = current().line;
  }
  return value;
}

const Expr* ExpressionParser::parse_or() {
  const Expr* left = parse_and();
  while (is_name("or")) {
    const int line = advance().line;
    left = make(Expr::Kind::kOr, line, {left, parse_and()});
  }
  return left;
}

const Expr* ExpressionParser::parse_and() {
  const Expr* left = parse_not();
  while (is_name("and")) {
    const int line = advance().line;
    left = make(Expr::Kind::kAnd, line, {left, parse_not()});
  }
  return left;
}

const Expr* ExpressionParser::parse_not() {
  if (is_name("not")) {
    const Nesting nesting(*this);
    const int line = advance().line;
    return make(Expr::Kind::kNot, line, {parse_not()});
  }
  return parse_compare();
}

const Expr* ExpressionParser::parse_compare() {
  constexpr std::array<std::pair<std::string_view, Operator>, 6> kCompare = {{{"==", Operator::kEq},
                                                                              {"!=", Operator::kNe},
                                                                              {"<", Operator::kLt},
                                                                              {"<=", Operator::kLe},
                                                                              {">", Operator::kGt},
                                                                              {">=", Operator::kGe}}};
  const int line = current().line;
  std::vector<const Expr*> items{parse_sum()};
  std::vector<Operator> ops;
  while (true) {
    bool found = false;
    for (const auto& [text, op] : kCompare) {
      if (!found && skip_operator(text)) {
        ops.push_back(op);
        found = true;
      }
    }
    if (!found && skip_name("in")) {
      ops.push_back(Operator::kIn);
      found = true;
    }
    if (!found && is_name("not") && look().type == TokenType::kName && look().text == "in") {
      advance();
      advance();
      ops.push_back(Operator::kNotIn);
      found = true;
    }
    if (!found) break;
    items.push_back(parse_sum());
  }
  if (ops.empty()) return items[0];
  Expr* node = make(Expr::Kind::kCompare, line, std::move(items));
  node->ops = std::move(ops);
  return node;
}

const Expr* ExpressionParser::parse_sum() {
  const Expr* left = parse_concat();
  while (is_operator("+") || is_operator("-")) {
    const Token& token = advance();
    Expr* node = make(Expr::Kind::kBinary, token.line, {left, parse_concat()});
    node->op = token.text == "+" ? Operator::kAdd : Operator::kSub;
    left = node;
  }
  return left;
}

const Expr* ExpressionParser::parse_concat() {
  const int line = current().line;
  std::vector<const Expr*> items{parse_product()};
  while (skip_operator("~")) items.push_back(parse_product());
  return items.size() == 1 ? items[0] : make(Expr::Kind::kConcat, line, std::move(items));
}

const Expr* ExpressionParser::parse_product() {
  const Expr* left = parse_power();
  while (is_operator("*") || is_operator("/") || is_operator("//") || is_operator("%")) {
    const Token& token = advance();
    Expr* node = make(Expr::Kind::kBinary, token.line, {left, parse_power()});
    node->op = token.text == "*"    ? Operator::kMul
               : token.text == "/"  ? Operator::kDiv
               : token.text == "//" ? Operator::kFloorDiv
                                    : Operator::kMod;
    left = node;
  }
  return left;
}

const Expr* ExpressionParser::parse_power() {
  const Expr* left = parse_unary();
  while (is_operator("**")) {
    const int line = advance().line;
    Expr* node = make(Expr::Kind::kBinary, line, {left, parse_unary()});
    node->op = Operator::kPow;
    left = node;
  }
  return left;
}

const Expr* ExpressionParser::parse_unary(bool with_filters) {
  const Nesting nesting(*this);
  const int line = current().line;
  const Expr* node = nullptr;
  if (skip_operator("-")) {
    node = make(Expr::Kind::kNegate, line, {parse_unary(false)});
  } else if (skip_operator("+")) {
    node = make(Expr::Kind::kPositive, line, {parse_unary(false)});
  } else {
    node = parse_primary();
  }
  node = parse_postfix(node);
  return with_filters ? parse_filters_and_tests(node) : node;
}

const Expr* ExpressionParser::parse_primary(bool with_namespace) {
  const Token& token = current();
  const int line = token.line;
  switch (token.type) {
    case TokenType::kName: {
      advance();
      const std::string& word = token.text;
      if (word == "true" || word == "True" || word == "false" || word == "False") {
        Expr* node = make(Expr::Kind::kConst, line);
        node->value = Value::boolean(word[0] == 't' || word[0] == 'T');
        return node;
      }
      if (word == "none" || word == "None") return make(Expr::Kind::kConst, line);
      const bool is_attr = with_namespace && skip_operator(".");
      Expr* node = make(is_attr ? Expr::Kind::kNamespaceAttr : Expr::Kind::kName, line);
      node->name_id = ast_.intern(word);
      if (reading_) ast_.read[static_cast<size_t>(node->name_id)] = true;
      if (is_attr) node->name = expect_name().text;
      return node;
    }
    case TokenType::kString: {
      std::string text;
      while (current().type == TokenType::kString) text += advance().text;
      Expr* node = make(Expr::Kind::kConst, line);
      node->value = Value::literal(std::move(text));
      return node;
    }
    case TokenType::kInteger: {
      Expr* node = make(Expr::Kind::kConst, line);
      node->value = Value::integer(advance().integer);
      return node;
    }
    case TokenType::kFloat: {
      Expr* node = make(Expr::Kind::kConst, line);
      node->value = Value::number(advance().number);
      return node;
    }
    case TokenType::kOperator:
      if (skip_operator("(")) {
        TupleOptions options;
        options.parentheses = true;
        const Expr* node = parse_tuple(options);
        expect_operator(")");
        return node;
      }
      if (is_operator("[")) return parse_list();
      if (is_operator("{")) return parse_dict();
      break;
    default:
      break;
  }
  error("unexpected " + string_repr(describe(token)), line);
}

const Expr* ExpressionParser::parse_tuple(const TupleOptions& options) {
  const int line = current().line;
  std::vector<const Expr*> items;
  bool is_tuple = false;
  while (true) {
    if (!items.empty()) expect_operator(",");
    if (current().type == TokenType::kVariableEnd || current().type == TokenType::kBlockEnd ||
        is_operator(")") || (!options.end_name.empty() && is_name(options.end_name))) {
      break;
    }
    items.push_back(options.simplified ? parse_primary(options.with_namespace)
                                       : parse_expression(options.with_inline_if));
    if (!is_operator(",")) break;
    is_tuple = true;
  }
  if (!is_tuple) {
    if (!items.empty()) return items[0];
    if (!options.parentheses) {
      error("Expected an expression, got " + string_repr(describe(current())));
    }
  }
  return make(Expr::Kind::kTuple, line, std::move(items));
}

const Expr* ExpressionParser::parse_list() {
  const int line = current().line;
  expect_operator("[");
  std::vector<const Expr*> items;
  while (!is_operator("]")) {
    if (!items.empty()) expect_operator(",");
    if (is_operator("]")) break;
    items.push_back(parse_expression());
  }
  expect_operator("]");
  return make(Expr::Kind::kList, line, std::move(items));
}

const Expr* ExpressionParser::parse_dict() {
  const int line = current().line;
  expect_operator("{");
  std::vector<const Expr*> items;
  while (!is_operator("}")) {
    if (!items.empty()) expect_operator(",");
    if (is_operator("}")) break;
    items.push_back(parse_expression());
    expect_operator(":");
    items.push_back(parse_expression());
  }
  expect_operator("}");
  return make(Expr::Kind::kDict, line, std::move(items));
}

const Expr* ExpressionParser::parse_postfix(const Expr* node) {
  while (true) {
    if (is_operator(".") || is_operator("[")) {
      node = parse_subscript(node);
    } else if (is_operator("(")) {
      node = parse_call(node);
    } else {
      return node;
    }
  }
}

const Expr* ExpressionParser::parse_filters_and_tests(const Expr* node) {
  while (true) {
    if (is_operator("|")) {
      node = parse_filters(node, false);
    } else if (is_name("is")) {
      node = parse_test(node);
    } else if (is_operator("(")) {
      node = parse_call(node);
    } else {
      return node;
    }
  }
}

const Expr* ExpressionParser::parse_subscript(const Expr* object) {
  const Token& token = advance();
  const int line = token.line;
  if (token.text == ".") {
    const Token& member = advance();
    if (member.type == TokenType::kName) {
      Expr* node = make(Expr::Kind::kAttribute, line, {object});
      node->name = member.text;
      node->value = Value::literal(member.text);
      return node;
    }
    if (member.type != TokenType::kInteger) error("expected name or number", member.line);
    Expr* index = make(Expr::Kind::kConst, line);
    index->value = Value::integer(member.integer);
    return make(Expr::Kind::kSubscript, line, {object, index});
  }
  std::vector<const Expr*> keys;
  bool is_slice = false;
  while (!is_operator("]")) {
    if (!keys.empty()) expect_operator(",");
    keys.push_back(parse_subscribed(object, line, is_slice));
  }
  expect_operator("]");
  if (keys.size() == 1 && is_slice) return keys[0];
  if (is_slice) error("a slice in a tuple of subscripts is not supported", line);
  const Expr* key = keys.size() == 1 ? keys[0] : make(Expr::Kind::kTuple, line, std::move(keys));
  return make(Expr::Kind::kSubscript, line, {object, key});
}

// One subscript; with a colon it is the whole slice node of `object`.
const Expr* ExpressionParser::parse_subscribed(const Expr* object, int line, bool& is_slice) {
  const Expr* bounds[3] = {nullptr, nullptr, nullptr};
  if (!is_operator(":")) {
    bounds[0] = parse_expression();
    if (!is_operator(":")) return bounds[0];
  }
  advance();
  const auto at_end = [&] { return is_operator(":") || is_operator("]") || is_operator(","); };
  if (!at_end()) bounds[1] = parse_expression();
  if (skip_operator(":") && !at_end()) bounds[2] = parse_expression();
  is_slice = true;
  return make(Expr::Kind::kSlice, line, {object, bounds[0], bounds[1], bounds[2]});
}

CallSyntax ExpressionParser::parse_call_arguments() {
  const int line = current().line;
  expect_operator("(");
  CallSyntax call;
  bool first = true;
  const auto ensure = [&](bool ok) {
    if (!ok) error("invalid syntax for function call expression", line);
  };
  while (!is_operator(")")) {
    if (!first) {
      expect_operator(",");
      if (is_operator(")")) break;  // a trailing comma
    }
    first = false;
    if (skip_operator("*")) {
      ensure(call.star == nullptr && call.double_star == nullptr);
      call.star = parse_expression();
    } else if (skip_operator("**")) {
      ensure(call.double_star == nullptr);
      call.double_star = parse_expression();
    } else if (current().type == TokenType::kName && look().type == TokenType::kOperator &&
               look().text == "=") {
      ensure(call.double_star == nullptr);
      const std::string key = advance().text;
      advance();
      for (const auto& [name, unused] : call.named) {
        if (name == key) error("keyword argument repeated: " + key, line);
      }
      call.named.emplace_back(key, parse_expression());
    } else {
      ensure(call.star == nullptr && call.double_star == nullptr && call.named.empty());
      call.positional.push_back(parse_expression());
    }
  }
  expect_operator(")");
  return call;
}

const Expr* ExpressionParser::parse_call(const Expr* callee) {
  const int line = current().line;
  Expr* node = make(Expr::Kind::kCall, line, {callee});
  node->call = parse_call_arguments();
  if (callee->kind == Expr::Kind::kName) called_.emplace_back(callee->name_id, line);
  return node;
}

void ExpressionParser::check_known(const Token& token, const std::string& name, bool is_filter) {
  const auto known = is_filter ? filter_status(name) : test_status(name);
  if (known == LibraryStatus::kSupported) return;
  const std::string at = "line " + std::to_string(token.line) + ": ";
  const std::string what = is_filter ? "filter" : "test";
  if (known == LibraryStatus::kRefused) refuse(at + what + " '" + name + "'");
  unknown_.push_back({at + "No " + what + " named " + string_repr(name) + ".", in_if_});
}

const Expr* ExpressionParser::parse_filters(const Expr* value, bool inline_start) {
  while (is_operator("|") || inline_start) {
    if (!inline_start) advance();
    inline_start = false;
    const Token& token = expect_name();
    std::string name = token.text;
    while (skip_operator(".")) name += "." + expect_name().text;
    check_known(token, name, true);
    Expr* node = make(Expr::Kind::kFilter, token.line, {value});
    node->name = std::move(name);
    if (is_operator("(")) node->call = parse_call_arguments();
    value = node;
  }
  return value;
}

const Expr* ExpressionParser::parse_test(const Expr* value) {
  const int line = advance().line;
  const bool negated = skip_name("not");
  const Token& token = expect_name();
  std::string name = token.text;
  while (skip_operator(".")) name += "." + expect_name().text;
  check_known(token, name, false);
  Expr* node = make(Expr::Kind::kTest, line, {value});
  node->name = std::move(name);
  const TokenType next = current().type;
  if (is_operator("(")) {
    node->call = parse_call_arguments();
  } else if ((next == TokenType::kName || next == TokenType::kString || next == TokenType::kInteger ||
              next == TokenType::kFloat || is_operator("[") || is_operator("{")) &&
             !is_name("else") && !is_name("or") && !is_name("and")) {
    if (is_name("is")) error("You cannot chain multiple tests with is");
    node->call.positional.push_back(parse_postfix(parse_primary()));
  }
  return negated ? make(Expr::Kind::kNot, line, {node}) : node;
}

void ExpressionParser::set_target(const Expr* target) {
  switch (target->kind) {
    case Expr::Kind::kName:
      ast_.assigned[static_cast<size_t>(target->name_id)] = true;
      return;
    case Expr::Kind::kNamespaceAttr:
      return;
    case Expr::Kind::kTuple:
      for (const Expr* item : target->items) set_target(item);
      return;
    default:
      error("can't assign to " + std::string(target->kind == Expr::Kind::kConst  ? "'const'"
                                             : target->kind == Expr::Kind::kList ? "'list'"
                                             : target->kind == Expr::Kind::kDict ? "'dict'"
                                                                                 : "this expression"),
            target->line);
  }
}

const Expr* ExpressionParser::parse_target(bool with_namespace, std::string_view end_name) {
  TupleOptions options;
  options.simplified = true;
  options.with_namespace = with_namespace;
  options.end_name = end_name;
  reading_ = false;
  const Expr* target = parse_tuple(options);
  reading_ = true;
  set_target(target);
  return target;
}

const Expr* ExpressionParser::parse_name_target() {
  const Token& token = expect_name();
  if (token.text == "true" || token.text == "false" || token.text == "none" || token.text == "True" ||
      token.text == "False" || token.text == "None") {
    error("can't assign to 'const'", token.line);
  }
  Expr* node = make(Expr::Kind::kName, token.line);
  node->name_id = ast_.intern(token.text);
  ast_.assigned[static_cast<size_t>(node->name_id)] = true;
  return node;
}

}  // namespace gantry::jinja

#include "chat/jinja_parser.h"

#include <algorithm>
#include <utility>

#include "chat/jinja_error.h"
#include "chat/jinja_parser_base.h"
#include "chat/python_repr.h"

namespace gantry::jinja {
namespace {

using Words = std::vector<std::string_view>;

class Parser : private ExpressionParser {
 public:
  Parser(std::vector<Token> tokens, Ast& ast) : ExpressionParser(std::move(tokens), ast) {}

  void run() {
    ast_.body = parse_until({});
    for (const auto& unknown : unknown_) {
      if (!unknown.may_be_passed_by) fail(unknown.message);
    }
    for (const auto& [id, line] : called_) {
      const std::string& name = ast_.names[static_cast<size_t>(id)];
      const bool refused = name == "lipsum" || name == "cycler" || name == "joiner";
      if (refused && !ast_.assigned[static_cast<size_t>(id)]) {
        refuse("line " + std::to_string(line) + ": function '" + name + "'");
      }
    }
  }

 private:
  Stmt* make_stmt(Stmt::Kind kind, int line) {
    Stmt& stmt = ast_.stmts.emplace_back();
    stmt.kind = kind;
    stmt.line = line;
    return &stmt;
  }

  // Statements up to a tag that `ends` names; that word is then the current token. Up to the end of the
  // template if `ends` is empty.
  Body parse_until(const Words& ends) {
    const Nesting nesting(*this);
    Body body;
    ends_.push_back(ends);
    while (current().type != TokenType::kEof) {
      const int line = current().line;
      if (current().type == TokenType::kData) {
        Stmt* stmt = make_stmt(Stmt::Kind::kData, line);
        stmt->text = Value::literal(advance().text);
        body.push_back(stmt);
      } else if (current().type == TokenType::kVariableBegin) {
        advance();
        Stmt* stmt = make_stmt(Stmt::Kind::kOutput, line);
        stmt->expr = parse_tuple({});
        expect(TokenType::kVariableEnd);
        body.push_back(stmt);
      } else {
        advance();
        if (current().type == TokenType::kName &&
            std::find(ends.begin(), ends.end(), current().text) != ends.end()) {
          ends_.pop_back();
          return body;
        }
        parse_statement(body);
        expect(TokenType::kBlockEnd);
      }
    }
    if (!ends.empty()) unknown_tag("");
    ends_.pop_back();
    return body;
  }

  // The body of a block: from behind its opening tag to one of `ends`. `drop_end` passes that word.
  Body parse_body(const Words& ends, bool drop_end) {
    skip_operator(":");
    expect(TokenType::kBlockEnd);
    Body body = parse_until(ends);
    if (drop_end) advance();
    return body;
  }

  // A body with variables of its own. In Jinja it is no longer "in an if" there.
  Body parse_inner_body(const Words& ends, bool drop_end) {
    const bool saved = std::exchange(in_if_, false);
    Body body = parse_body(ends, drop_end);
    in_if_ = saved;
    return body;
  }

  // A body that is a function of its own: a loop around it cannot be left from inside.
  Body parse_function_body(std::string_view end) {
    const int saved = std::exchange(loops_, 0);
    Body body = parse_inner_body({end}, true);
    loops_ = saved;
    return body;
  }

  [[noreturn]] void unknown_tag(const std::string& name) {
    std::string message =
        name.empty() ? "Unexpected end of template." : "Encountered unknown tag '" + name + "'.";
    const Words& looking_for = ends_.back();
    bool misplaced = false;
    for (const Words& ends : ends_) {
      misplaced = misplaced || std::find(ends.begin(), ends.end(), name) != ends.end();
    }
    std::string wanted;
    for (const auto word : looking_for) wanted += (wanted.empty() ? "'" : " or '") + std::string(word) + "'";
    if (!wanted.empty()) {
      message += misplaced && !name.empty() ? " You probably made a nesting mistake. Jinja is expecting this "
                                              "tag, but currently looking for " +
                                                  wanted + "."
                                            : " Jinja was looking for the following tags: " + wanted + ".";
    }
    if (!tags_.empty()) message += " The innermost block that needs to be closed is '" + tags_.back() + "'.";
    error(message);
  }

  void parse_statement(Body& body) {
    if (current().type != TokenType::kName) error("tag name expected");
    const Token& token = current();
    const std::string& tag = token.text;
    const int line = token.line;
    for (const std::string_view refused : {"include", "import", "from", "extends", "block", "autoescape"}) {
      if (tag == refused) refuse("line " + std::to_string(line) + ": tag '" + tag + "'");
    }
    using Parse = const Stmt* (Parser::*)(int);
    static constexpr std::pair<std::string_view, Parse> kTags[] = {
        {"set", &Parser::parse_set},         {"if", &Parser::parse_if},
        {"for", &Parser::parse_for},         {"macro", &Parser::parse_macro},
        {"call", &Parser::parse_call_block}, {"filter", &Parser::parse_filter_block},
        {"with", &Parser::parse_with},       {"generation", &Parser::parse_generation},
        {"break", &Parser::parse_loop_exit}, {"continue", &Parser::parse_loop_exit},
    };
    if (tag == "print") {
      advance();
      return parse_print(body);
    }
    for (const auto& [name, parse] : kTags) {
      if (tag != name) continue;
      tags_.push_back(tag);
      advance();
      body.push_back((this->*parse)(line));
      tags_.pop_back();
      return;
    }
    unknown_tag(tag);
  }

  void parse_print(Body& body) {
    bool first = true;
    while (current().type != TokenType::kBlockEnd) {
      if (!first) expect_operator(",");
      first = false;
      Stmt* stmt = make_stmt(Stmt::Kind::kOutput, current().line);
      stmt->expr = parse_expression();
      body.push_back(stmt);
    }
  }

  const Stmt* parse_set(int line) {
    const Expr* target = parse_target(true);
    if (skip_operator("=")) {
      Stmt* stmt = make_stmt(Stmt::Kind::kSet, line);
      stmt->target = target;
      stmt->expr = parse_tuple({});
      return stmt;
    }
    Stmt* stmt = make_stmt(Stmt::Kind::kSetBlock, line);
    stmt->target = target;
    stmt->expr = parse_filters(nullptr, false);
    stmt->body = parse_inner_body({"endset"}, true);
    return stmt;
  }

  const Stmt* parse_if(int line) {
    Stmt* stmt = make_stmt(Stmt::Kind::kIf, line);
    const bool saved = std::exchange(in_if_, true);
    TupleOptions options;
    options.with_inline_if = false;
    while (true) {
      const Expr* test = parse_tuple(options);
      stmt->branches.push_back({test, parse_body({"elif", "else", "endif"}, false)});
      const std::string end = advance().text;
      if (end == "elif") continue;
      if (end == "else") stmt->otherwise = parse_body({"endif"}, true);
      break;
    }
    in_if_ = saved;
    return stmt;
  }

  const Stmt* parse_for(int line) {
    Stmt* stmt = make_stmt(Stmt::Kind::kFor, line);
    stmt->target = parse_target(false, "in");
    if (!skip_name("in")) error("expected token 'in', got " + string_repr(describe(current())));
    TupleOptions options;
    options.with_inline_if = false;
    options.end_name = "recursive";
    stmt->expr = parse_tuple(options);
    if (skip_name("if")) stmt->filter = parse_expression();
    if (is_name("recursive")) refuse("line " + std::to_string(line) + ": 'recursive' of a for loop");
    ++loops_;
    stmt->body = parse_inner_body({"endfor", "else"}, false);
    --loops_;
    if (advance().text == "else") stmt->otherwise = parse_inner_body({"endfor"}, true);
    return stmt;
  }

  void parse_signature(MacroNode& macro) {
    expect_operator("(");
    bool has_default = false;
    while (!is_operator(")")) {
      if (!macro.parameters.empty()) expect_operator(",");
      const Expr* name = parse_name_target();
      const Expr* fallback = nullptr;
      if (skip_operator("=")) {
        fallback = parse_expression();
        has_default = true;
      } else if (has_default) {
        error("non-default argument follows default argument");
      }
      if (ast_.names[static_cast<size_t>(name->name_id)] == "caller" && fallback == nullptr) {
        error(
            "When defining macros or call blocks the special \"caller\" argument must be omitted or be given "
            "a "
            "default.",
            name->line);
      }
      macro.parameters.emplace_back(name->name_id, fallback);
    }
    expect_operator(")");
  }

  void parse_macro_body(MacroNode& macro, std::string_view end) {
    const NameId ids[3] = {ast_.intern("caller"), ast_.intern("varargs"), ast_.intern("kwargs")};
    bool saved[3];
    for (int i = 0; i < 3; ++i) {
      saved[i] = ast_.read[static_cast<size_t>(ids[i])];
      ast_.read[static_cast<size_t>(ids[i])] = false;
    }
    macro.body = parse_function_body(end);
    bool used[3];
    for (int i = 0; i < 3; ++i) {
      used[i] = ast_.read[static_cast<size_t>(ids[i])];
      ast_.read[static_cast<size_t>(ids[i])] = saved[i] || used[i];
    }
    for (const auto& [id, unused] : macro.parameters) {
      for (int i = 0; i < 3; ++i) used[i] = used[i] && id != ids[i];
    }
    macro.uses_caller = used[0];
    macro.uses_varargs = used[1];
    macro.uses_kwargs = used[2];
  }

  const Stmt* parse_macro(int line) {
    Stmt* stmt = make_stmt(Stmt::Kind::kMacro, line);
    const Expr* name = parse_name_target();
    stmt->macro.name_id = name->name_id;
    stmt->macro.name = ast_.names[static_cast<size_t>(name->name_id)];
    parse_signature(stmt->macro);
    parse_macro_body(stmt->macro, "endmacro");
    return stmt;
  }

  const Stmt* parse_call_block(int line) {
    Stmt* stmt = make_stmt(Stmt::Kind::kCallBlock, line);
    stmt->macro.name = "caller";
    stmt->macro.name_id = ast_.intern("caller");
    if (is_operator("(")) parse_signature(stmt->macro);
    stmt->expr = parse_expression();
    if (stmt->expr->kind != Expr::Kind::kCall) error("expected call", line);
    parse_macro_body(stmt->macro, "endcall");
    return stmt;
  }

  const Stmt* parse_filter_block(int line) {
    Stmt* stmt = make_stmt(Stmt::Kind::kFilterBlock, line);
    stmt->expr = parse_filters(nullptr, true);
    stmt->body = parse_inner_body({"endfilter"}, true);
    return stmt;
  }

  const Stmt* parse_with(int line) {
    Stmt* stmt = make_stmt(Stmt::Kind::kWith, line);
    while (current().type != TokenType::kBlockEnd) {
      if (!stmt->with.empty()) expect_operator(",");
      stmt->with.push_back(parse_target(false));
      expect_operator("=");
      stmt->with.push_back(parse_expression());
    }
    stmt->body = parse_inner_body({"endwith"}, true);
    return stmt;
  }

  const Stmt* parse_generation(int line) {
    Stmt* stmt = make_stmt(Stmt::Kind::kGeneration, line);
    stmt->body = parse_function_body("endgeneration");
    return stmt;
  }

  const Stmt* parse_loop_exit(int line) {
    const bool is_break = tags_.back() == "break";
    if (loops_ == 0) error(is_break ? "'break' outside loop" : "'continue' not properly in loop", line);
    return make_stmt(is_break ? Stmt::Kind::kBreak : Stmt::Kind::kContinue, line);
  }

  std::vector<Words> ends_;
  std::vector<std::string> tags_;
  int loops_ = 0;  // for loops around this place in the same function
};

}  // namespace

std::unique_ptr<Ast> parse_template(std::string_view source) {
  auto ast = std::make_unique<Ast>();
  Parser(tokenize(source), *ast).run();
  return ast;
}

}  // namespace gantry::jinja

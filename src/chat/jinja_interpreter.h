// Runs a syntax tree, with the limits of base/limits.h: fuel, depth, output bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "chat/jinja_ast.h"
#include "chat/jinja_library.h"

namespace gantry::jinja {

// The variables of one block, loop iteration or macro call. The outermost scope has no parent.
struct Scope {
  Scope* parent = nullptr;
  bool captured = false;  // a macro refers to it: it lives as long as the interpreter
  std::vector<std::pair<NameId, Value>> variables;

  const Value* find(NameId id) const;
  void set(NameId id, Value value);
};

class Frame;

class Interpreter {
 public:
  // `variables` are what the template sees besides its own; `ast` outlives the interpreter.
  Interpreter(const Ast& ast, std::vector<std::pair<std::string, Value>> variables, int64_t now_unix_seconds);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  // The rendered text, or Failure. Once.
  Text run();

  // Takes fuel; Failure(kResourceExhausted) when there is none left.
  void charge(uint64_t units);
  // For a new string: text is bounded by fuel too.
  void charge_string(size_t bytes) { charge(4 + bytes / 32); }
  void charge_text(const Text& text) { charge(4 + text.cost()); }
  Value make_string(Text text, bool markup = false);
  // str(value), charged by its parts.
  Text text_of(const Value& value);

  Value call(const Value& callee, const Arguments& arguments);

  // Counts the recursion for as long as it lives; Failure(kResourceExhausted) past
  // limits::kTemplateCallDepthMax.
  class Depth {
   public:
    explicit Depth(Interpreter& interpreter);
    ~Depth() { --interpreter_.depth_; }
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;

   private:
    Interpreter& interpreter_;
  };

 private:
  friend class Frame;
  enum class Flow { kNormal, kBreak, kContinue };

  Flow run_body(const Body& body, Scope& scope, Text& out);
  Flow run_statement(const Stmt& stmt, Scope& scope, Text& out);
  Flow run_if(const Stmt& stmt, Scope& scope, Text& out);
  Flow run_for(const Stmt& stmt, Scope& scope, Text& out);
  void run_set_block(const Stmt& stmt, Scope& scope);
  Flow run_with(const Stmt& stmt, Scope& scope, Text& out);
  void run_call_block(const Stmt& stmt, Scope& scope, Text& out);
  void emit(const Value& value, Text& out);
  void emit(const Text& text, Text& out);
  Text capture(const Body& body, Scope& scope, Flow& flow);

  Value evaluate(const Expr& expr, Scope& scope);
  Value evaluate_name(NameId id, const Scope& scope);
  Value evaluate_slice(const Expr& expr, Scope& scope);
  Value evaluate_inline_if(const Expr& expr, Scope& scope);
  Value evaluate_compare(const Expr& expr, Scope& scope);
  Value evaluate_concat(const Expr& expr, Scope& scope);
  Value evaluate_dict(const Expr& expr, Scope& scope);
  std::vector<Value> evaluate_items(const std::vector<const Expr*>& items, Scope& scope);
  Arguments evaluate_arguments(const CallSyntax& call, Scope& scope);
  // Runs the chain of filters `expr` over `input`, which stands where the chain has no value.
  Value apply_filters(const Expr& expr, const Value& input, Scope& scope);

  void check_target(const Expr& target, const Scope& scope);
  void assign(const Expr& target, const Value& value, Scope& scope);
  Value make_macro(const MacroNode& node, Scope& scope);
  Value call_macro(const Macro& macro, const Arguments& arguments);
  Value call_function(Function function, const Arguments& arguments);
  Value make_range(const Arguments& arguments);
  Value make_namespace(const Arguments& arguments);
  Value make_dict(const Arguments& arguments);
  // The pairs that dict(mapping or pairs, name=value ...) takes.
  std::vector<std::pair<Value, Value>> collect_pairs(const Arguments& arguments);
  Value format_now(const Arguments& arguments);

  const Ast& ast_;
  Scope globals_;
  NameId loop_id_ = -1;  // of the variable `loop`, if the template has it
  NameId caller_id_ = -1;
  NameId varargs_id_ = -1;
  NameId kwargs_id_ = -1;
  int64_t now_unix_seconds_;
  uint64_t fuel_;
  int depth_ = 0;
  std::vector<std::unique_ptr<Scope>> captured_;        // scopes that macros refer to
  std::vector<std::shared_ptr<Namespace>> namespaces_;  // may refer to each other in a cycle
};

}  // namespace gantry::jinja

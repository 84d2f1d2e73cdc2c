#include "chat/jinja_interpreter.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/limits.h"
#include "chat/jinja_access.h"
#include "chat/jinja_error.h"
#include "chat/jinja_frame.h"
#include "chat/python_repr.h"

namespace gantry::jinja {

const Value* Scope::find(NameId id) const {
  for (const auto& [key, value] : variables) {
    if (key == id) return &value;
  }
  return nullptr;
}

void Scope::set(NameId id, Value value) {
  for (auto& [key, old] : variables) {
    if (key == id) {
      old = std::move(value);
      return;
    }
  }
  variables.emplace_back(id, std::move(value));
}

Interpreter::Depth::Depth(Interpreter& interpreter) : interpreter_(interpreter) {
  if (++interpreter_.depth_ > limits::kTemplateCallDepthMax) {
    --interpreter_.depth_;
    exhaust("the template recurses deeper than " + std::to_string(limits::kTemplateCallDepthMax) + " nodes");
  }
}

Interpreter::Interpreter(const Ast& ast, std::vector<std::pair<std::string, Value>> variables,
                         int64_t now_unix_seconds)
    : ast_(ast), now_unix_seconds_(now_unix_seconds), fuel_(limits::kTemplateFuelMax) {
  const auto id_of = [&](const std::string& name) {
    const auto it = ast.name_ids.find(name);
    return it == ast.name_ids.end() ? -1 : it->second;
  };
  constexpr std::array<std::pair<const char*, Function>, 5> kFunctions = {
      {{"range", Function::kRange},
       {"namespace", Function::kNamespace},
       {"dict", Function::kDict},
       {"raise_exception", Function::kRaiseException},
       {"strftime_now", Function::kStrftimeNow}}};
  for (const auto& [name, function] : kFunctions) {
    if (const NameId id = id_of(name); id >= 0) globals_.set(id, Value::function(function));
  }
  // `self` stands for the template's blocks; here there are none.
  if (const NameId id = id_of("self"); id >= 0) globals_.set(id, std::make_shared<Namespace>());
  for (auto& [name, value] : variables) {
    if (const NameId id = id_of(name); id >= 0) globals_.set(id, std::move(value));
  }
  loop_id_ = id_of("loop");
  caller_id_ = id_of("caller");
  varargs_id_ = id_of("varargs");
  kwargs_id_ = id_of("kwargs");
}

Interpreter::~Interpreter() {
  for (const auto& name_space : namespaces_) name_space->attributes.clear();
}

Text Interpreter::run() {
  Frame frame(*this, globals_);
  Text out;
  run_body(ast_.body, frame.scope(), out);
  return out;
}

void Interpreter::charge(uint64_t units) {
  if (units > fuel_) {
    fuel_ = 0;
    exhaust("the template needs more than " + std::to_string(limits::kTemplateFuelMax) + " units of work");
  }
  fuel_ -= units;
}

Value Interpreter::make_string(Text text, bool markup) {
  charge_text(text);
  return Value::string(std::move(text), markup);
}

Text Interpreter::text_of(const Value& value) {
  // Escapes make the text of a container up to four times as long.
  charge(value.is_string() ? value.weight() : value.weight() * 4);
  return to_text(value);
}

void Interpreter::emit(const Value& value, Text& out) {
  if (value.is_string()) return emit(value.text(), out);
  if (!value.is_undefined()) emit(text_of(value), out);
}

void Interpreter::emit(const Text& text, Text& out) {
  charge(1 + text.cost());
  if (text.size() > limits::kTemplateOutputBytesMax - out.size()) {
    exhaust("the rendered prompt is longer than " + std::to_string(limits::kTemplateOutputBytesMax) +
            " bytes");
  }
  out.append(text);
}

Text Interpreter::capture(const Body& body, Scope& scope, Flow& flow) {
  Text out;
  Frame frame(*this, scope);
  flow = run_body(body, frame.scope(), out);
  return out;
}

Interpreter::Flow Interpreter::run_body(const Body& body, Scope& scope, Text& out) {
  const Depth depth(*this);
  for (const Stmt* stmt : body) {
    charge(1);
    if (const Flow flow = run_statement(*stmt, scope, out); flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::run_statement(const Stmt& stmt, Scope& scope, Text& out) {
  Flow flow = Flow::kNormal;
  switch (stmt.kind) {
    case Stmt::Kind::kData:
      emit(stmt.text.text(), out);
      break;
    case Stmt::Kind::kOutput:
      emit(evaluate(*stmt.expr, scope), out);
      break;
    case Stmt::Kind::kSet:
      check_target(*stmt.target, scope);
      assign(*stmt.target, evaluate(*stmt.expr, scope), scope);
      break;
    case Stmt::Kind::kSetBlock: {
      const Value text = make_string(capture(stmt.body, scope, flow));
      if (flow != Flow::kNormal) break;
      assign(*stmt.target, stmt.expr == nullptr ? text : apply_filters(*stmt.expr, text, scope), scope);
      break;
    }
    case Stmt::Kind::kFor:
      return run_for(stmt, scope, out);
    case Stmt::Kind::kIf:
      return run_if(stmt, scope, out);
    case Stmt::Kind::kMacro:
      scope.set(stmt.macro.name_id, make_macro(stmt.macro, scope));
      break;
    case Stmt::Kind::kCallBlock:
      run_call_block(stmt, scope, out);
      break;
    case Stmt::Kind::kFilterBlock: {
      const Value text = make_string(capture(stmt.body, scope, flow));
      if (flow == Flow::kNormal) emit(apply_filters(*stmt.expr, text, scope), out);
      break;
    }
    case Stmt::Kind::kWith:
      return run_with(stmt, scope, out);
    case Stmt::Kind::kGeneration: {
      Frame frame(*this, scope);
      return run_body(stmt.body, frame.scope(), out);
    }
    case Stmt::Kind::kBreak:
      return Flow::kBreak;
    case Stmt::Kind::kContinue:
      return Flow::kContinue;
  }
  return flow;
}

Interpreter::Flow Interpreter::run_if(const Stmt& stmt, Scope& scope, Text& out) {
  for (const IfBranch& branch : stmt.branches) {
    if (evaluate(*branch.test, scope).truthy()) return run_body(branch.body, scope, out);
  }
  return run_body(stmt.otherwise, scope, out);
}

Interpreter::Flow Interpreter::run_for(const Stmt& stmt, Scope& scope, Text& out) {
  std::shared_ptr<Sequence> sequence = iterate(*this, evaluate(*stmt.expr, scope));
  if (stmt.filter != nullptr) {
    std::vector<Value> kept;
    Frame frame(*this, scope);
    for (const Value& item : sequence->items) {
      frame.renew();
      assign(*stmt.target, item, frame.scope());
      if (evaluate(*stmt.filter, frame.scope()).truthy()) kept.push_back(item);
    }
    sequence = std::make_shared<Sequence>(SequenceType::kList, std::move(kept));
  }
  Frame frame(*this, scope);
  if (sequence->items.empty()) return run_body(stmt.otherwise, frame.scope(), out);
  const auto loop = std::make_shared<Loop>();
  loop->sequence = sequence;
  loop->length = sequence->items.size();
  // A loop object that outlives the loop must not hold its items: they could hold another loop, and so on.
  struct Release {
    Loop& loop;
    ~Release() {
      loop.sequence.reset();
      loop.changed_value.clear();
    }
  } release{*loop};
  for (; loop->index0 < loop->length; ++loop->index0) {
    charge(1);
    frame.renew();
    if (loop_id_ >= 0) frame.scope().set(loop_id_, loop);
    assign(*stmt.target, sequence->items[loop->index0], frame.scope());
    if (run_body(stmt.body, frame.scope(), out) == Flow::kBreak) break;
  }
  if (loop->index0 == loop->length) --loop->index0;
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::run_with(const Stmt& stmt, Scope& scope, Text& out) {
  Frame frame(*this, scope);
  for (size_t i = 0; i < stmt.with.size(); i += 2) {
    assign(*stmt.with[i], evaluate(*stmt.with[i + 1], scope), frame.scope());
  }
  return run_body(stmt.body, frame.scope(), out);
}

void Interpreter::run_call_block(const Stmt& stmt, Scope& scope, Text& out) {
  const Value callee = evaluate(*stmt.expr->items[0], scope);
  Arguments arguments = evaluate_arguments(stmt.expr->call, scope);
  arguments.named.emplace_back("caller", make_macro(stmt.macro, scope));
  emit(call(callee, arguments), out);
}

// Jinja looks at the namespaces that a `set` names before it evaluates the value.
void Interpreter::check_target(const Expr& target, const Scope& scope) {
  if (target.kind == Expr::Kind::kTuple) {
    for (const Expr* item : target.items) check_target(*item, scope);
  } else if (target.kind == Expr::Kind::kNamespaceAttr &&
             evaluate_name(target.name_id, scope).kind() != Value::Kind::kNamespace) {
    fail("cannot assign attribute on non-namespace object");
  }
}

void Interpreter::assign(const Expr& target, const Value& value, Scope& scope) {
  switch (target.kind) {
    case Expr::Kind::kName:
      charge(scope.variables.size() / 32);
      return scope.set(target.name_id, value);
    case Expr::Kind::kNamespaceAttr: {
      const Value object = evaluate_name(target.name_id, scope);
      check_target(target, scope);
      if (target.name[0] == '_') fail("a namespace cannot have the attribute " + string_repr(target.name));
      charge(object.name_space()->attributes.size() / 8);
      return object.name_space()->set(target.name, value);
    }
    default: {
      if (!is_iterable(value))
        fail("cannot unpack non-iterable " + std::string(value.type_name()) + " object");
      const auto items = iterate(*this, value);
      const std::string expected = std::to_string(target.items.size());
      if (items->items.size() < target.items.size()) {
        fail("not enough values to unpack (expected " + expected + ", got " +
             std::to_string(items->items.size()) + ")");
      }
      if (items->items.size() > target.items.size())
        fail("too many values to unpack (expected " + expected + ")");
      for (size_t i = 0; i < target.items.size(); ++i) assign(*target.items[i], items->items[i], scope);
    }
  }
}

}  // namespace gantry::jinja

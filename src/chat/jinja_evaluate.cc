// The interpreter's expressions.
#include <array>
#include <utility>

#include "chat/jinja_access.h"
#include "chat/jinja_error.h"
#include "chat/jinja_interpreter.h"
#include "chat/jinja_operators.h"
#include "chat/python_repr.h"

namespace gantry::jinja {

Value Interpreter::evaluate_name(NameId id, const Scope& scope) {
  for (const Scope* s = &scope; s != nullptr; s = s->parent) {
    charge(s->variables.size() / 32);
    if (const Value* value = s->find(id)) return *value;
  }
  return Value::undefined_name(ast_.names[static_cast<size_t>(id)]);
}

std::vector<Value> Interpreter::evaluate_items(const std::vector<const Expr*>& items, Scope& scope) {
  std::vector<Value> values;
  values.reserve(items.size());
  for (const Expr* item : items) values.push_back(evaluate(*item, scope));
  return values;
}

Value Interpreter::evaluate(const Expr& expr, Scope& scope) {
  const Depth depth(*this);
  charge(1);
  switch (expr.kind) {
    case Expr::Kind::kConst:
      return expr.value;
    case Expr::Kind::kName:
    case Expr::Kind::kNamespaceAttr:
      return evaluate_name(expr.name_id, scope);
    case Expr::Kind::kTuple:
      return Value::tuple(evaluate_items(expr.items, scope));
    case Expr::Kind::kList:
      return Value::list(evaluate_items(expr.items, scope));
    case Expr::Kind::kDict:
      return evaluate_dict(expr, scope);
    case Expr::Kind::kAttribute:
      return get_attribute(*this, evaluate(*expr.items[0], scope), expr.value);
    case Expr::Kind::kSubscript: {
      const Value object = evaluate(*expr.items[0], scope);
      return get_item(*this, object, evaluate(*expr.items[1], scope));
    }
    case Expr::Kind::kSlice:
      return evaluate_slice(expr, scope);
    case Expr::Kind::kCall: {
      const Value callee = evaluate(*expr.items[0], scope);
      return call(callee, evaluate_arguments(expr.call, scope));
    }
    case Expr::Kind::kFilter:
      return apply_filters(expr, Value(), scope);
    case Expr::Kind::kTest: {
      const Value value = evaluate(*expr.items[0], scope);
      if (test_status(expr.name) != LibraryStatus::kSupported) {
        fail("No test named " + string_repr(expr.name) + " found.");
      }
      return Value::boolean(call_test(*this, expr.name, value, evaluate_arguments(expr.call, scope)));
    }
    case Expr::Kind::kNegate:
      return negate(evaluate(*expr.items[0], scope));
    case Expr::Kind::kPositive:
      return positive(evaluate(*expr.items[0], scope));
    case Expr::Kind::kNot:
      return Value::boolean(!evaluate(*expr.items[0], scope).truthy());
    case Expr::Kind::kAnd: {
      Value left = evaluate(*expr.items[0], scope);
      return left.truthy() ? evaluate(*expr.items[1], scope) : left;
    }
    case Expr::Kind::kOr: {
      Value left = evaluate(*expr.items[0], scope);
      return left.truthy() ? left : evaluate(*expr.items[1], scope);
    }
    case Expr::Kind::kBinary: {
      const Value left = evaluate(*expr.items[0], scope);
      return binary(*this, expr.op, left, evaluate(*expr.items[1], scope));
    }
    case Expr::Kind::kCompare:
      return evaluate_compare(expr, scope);
    case Expr::Kind::kConcat:
      return evaluate_concat(expr, scope);
    case Expr::Kind::kInlineIf:
      return evaluate_inline_if(expr, scope);
  }
  return Value();
}

Value Interpreter::evaluate_slice(const Expr& expr, Scope& scope) {
  const Value object = evaluate(*expr.items[0], scope);
  std::array<Value, 3> bounds;
  for (size_t i = 0; i < 3; ++i) {
    if (expr.items[i + 1] != nullptr) bounds[i] = evaluate(*expr.items[i + 1], scope);
  }
  return get_slice(*this, object, bounds[0], bounds[1], bounds[2]);
}

Value Interpreter::evaluate_inline_if(const Expr& expr, Scope& scope) {
  if (evaluate(*expr.items[1], scope).truthy()) return evaluate(*expr.items[0], scope);
  if (expr.items[2] != nullptr) return evaluate(*expr.items[2], scope);
  return Value::undefined("the inline if-expression on line " + std::to_string(expr.line) +
                          " evaluated to false and no else section was defined.");
}

Value Interpreter::evaluate_compare(const Expr& expr, Scope& scope) {
  Value left = evaluate(*expr.items[0], scope);
  for (size_t i = 0; i < expr.ops.size(); ++i) {
    Value right = evaluate(*expr.items[i + 1], scope);
    if (!compare(*this, expr.ops[i], left, right)) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

Value Interpreter::evaluate_concat(const Expr& expr, Scope& scope) {
  Text out;
  for (const Expr* item : expr.items) {
    const Text part = text_of(evaluate(*item, scope));
    charge_text(part);
    out.append(part);
  }
  return make_string(std::move(out));
}

Value Interpreter::evaluate_dict(const Expr& expr, Scope& scope) {
  const auto dict = std::make_shared<Dict>();
  for (size_t i = 0; i < expr.items.size(); i += 2) {
    const Value key = evaluate(*expr.items[i], scope);
    charge(key.weight());
    dict->set(key, evaluate(*expr.items[i + 1], scope));
  }
  return std::shared_ptr<const Dict>(dict);
}

Arguments Interpreter::evaluate_arguments(const CallSyntax& call, Scope& scope) {
  Arguments arguments;
  arguments.positional = evaluate_items(call.positional, scope);
  for (const auto& [name, expr] : call.named) arguments.named.emplace_back(name, evaluate(*expr, scope));
  if (call.star != nullptr) {
    const auto extra = iterate(*this, evaluate(*call.star, scope));
    charge(extra->items.size());
    arguments.positional.insert(arguments.positional.end(), extra->items.begin(), extra->items.end());
  }
  if (call.double_star != nullptr) {
    const Value extra = evaluate(*call.double_star, scope);
    if (!extra.is_dict()) {
      fail("argument after ** must be a mapping, not " + std::string(extra.type_name()));
    }
    for (const auto& [key, value] : extra.dict()->entries) {
      if (!key.is_string()) fail("keywords must be strings");
      charge(1 + arguments.named.size());
      for (const auto& [name, unused] : arguments.named) {
        if (name == key.view()) fail("got multiple values for keyword argument '" + name + "'");
      }
      arguments.named.emplace_back(std::string(key.view()), value);
    }
  }
  return arguments;
}

Value Interpreter::apply_filters(const Expr& expr, const Value& input, Scope& scope) {
  const Expr* inner = expr.items[0];
  Value value;
  if (inner == nullptr) {
    value = input;
  } else if (inner->kind == Expr::Kind::kFilter) {
    const Depth depth(*this);
    value = apply_filters(*inner, input, scope);
  } else {
    value = evaluate(*inner, scope);
  }
  charge(1);
  if (filter_status(expr.name) != LibraryStatus::kSupported) {
    fail("No filter named " + string_repr(expr.name) + " found.");
  }
  return call_filter(*this, expr.name, value, evaluate_arguments(expr.call, scope));
}

}  // namespace gantry::jinja

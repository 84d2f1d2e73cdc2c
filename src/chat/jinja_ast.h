// The syntax tree of a template. Nodes live in their Ast and refer to each other by pointer.
#pragma once

#include <deque>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "chat/jinja_value.h"

namespace gantry::jinja {

using NameId = int;  // index into Ast::names

enum class Operator {
  kAdd,
  kSub,
  kMul,
  kDiv,
  kFloorDiv,
  kMod,
  kPow,
  kEq,
  kNe,
  kLt,
  kLe,
  kGt,
  kGe,
  kIn,
  kNotIn
};

struct Expr;

// The arguments of a call, filter or test.
struct CallSyntax {
  std::vector<const Expr*> positional;
  std::vector<std::pair<std::string, const Expr*>> named;
  const Expr* star = nullptr;         // *x
  const Expr* double_star = nullptr;  // **x
};

struct Expr {
  enum class Kind {
    kConst,          // value
    kName,           // name_id
    kNamespaceAttr,  // only as a target: name_id . name
    kTuple,          // items
    kList,           // items
    kDict,           // items: key, value, key, value ...
    kAttribute,      // items[0] . name
    kSubscript,      // items[0] [ items[1] ]
    kSlice,          // items[0] [ items[1] : items[2] : items[3] ], each of the three may be null
    kCall,           // items[0] ( call )
    kFilter,         // items[0] | name ( call ); items[0] is null in a filter block
    kTest,           // items[0] is name ( call )
    kNegate,
    kPositive,
    kNot,
    kAnd,
    kOr,
    kBinary,   // items[0] op items[1]
    kCompare,  // items[0] ops[0] items[1] ops[1] items[2] ...
    kConcat,   // items joined with ~
    kInlineIf  // items[0] if items[1] else items[2], the last may be null
  };
  Kind kind = Kind::kConst;
  int line = 0;
  NameId name_id = -1;
  Operator op = Operator::kAdd;
  Value value;
  std::string name;
  std::vector<const Expr*> items;
  std::vector<Operator> ops;
  CallSyntax call;
};

struct Stmt;
using Body = std::vector<const Stmt*>;

struct IfBranch {
  const Expr* test;
  Body body;
};

// A macro, or the body of a call block (named "caller").
struct MacroNode {
  std::string name;
  NameId name_id = -1;
  std::vector<std::pair<NameId, const Expr*>> parameters;  // the default is null where there is none
  Body body;
  bool uses_caller = false;
  bool uses_varargs = false;
  bool uses_kwargs = false;
};

struct Stmt {
  enum class Kind {
    kData,         // text
    kOutput,       // expr
    kSet,          // target = expr
    kSetBlock,     // target = body through filter (expr, may be null)
    kFor,          // target in expr if filter: body, else otherwise
    kIf,           // branches, else otherwise
    kMacro,        // macro
    kCallBlock,    // expr is the call, macro the caller
    kFilterBlock,  // expr is the filter chain
    kWith,         // targets and values alternate in with; body
    kGeneration,   // body (transformers' marker of the assistant's tokens)
    kBreak,
    kContinue
  };
  Kind kind = Kind::kData;
  int line = 0;
  Value text;
  const Expr* target = nullptr;
  const Expr* expr = nullptr;
  const Expr* filter = nullptr;
  std::vector<const Expr*> with;
  Body body;
  Body otherwise;
  std::vector<IfBranch> branches;
  MacroNode macro;
};

struct Ast {
  Body body;
  std::vector<std::string> names;
  std::unordered_map<std::string, NameId> name_ids;
  std::vector<bool> read;      // by NameId: the template reads the variable somewhere
  std::vector<bool> assigned;  // by NameId: the template assigns it somewhere
  std::deque<Expr> exprs;
  std::deque<Stmt> stmts;

  NameId intern(const std::string& name);
};

}  // namespace gantry::jinja

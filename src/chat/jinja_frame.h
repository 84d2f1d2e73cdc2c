// The scope of a block, for the parts of the interpreter.
#pragma once

#include <memory>
#include <utility>

#include "chat/jinja_interpreter.h"

namespace gantry::jinja {

// A scope for as long as a block runs; it stays if a macro refers to it.
class Frame {
 public:
  Frame(Interpreter& interpreter, Scope& parent)
      : interpreter_(interpreter), parent_(parent), scope_(std::make_unique<Scope>()) {
    scope_->parent = &parent;
  }
  ~Frame() { keep_if_captured(); }
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;

  Scope& scope() { return *scope_; }
  // Fresh variables for the next iteration.
  void renew() {
    if (!scope_->captured) {
      scope_->variables.clear();
      return;
    }
    keep_if_captured();
    scope_ = std::make_unique<Scope>();
    scope_->parent = &parent_;
  }

 private:
  void keep_if_captured() {
    if (scope_->captured) interpreter_.captured_.push_back(std::move(scope_));
  }

  Interpreter& interpreter_;
  Scope& parent_;
  std::unique_ptr<Scope> scope_;
};

}  // namespace gantry::jinja

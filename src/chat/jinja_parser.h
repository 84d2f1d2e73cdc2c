// Jinja source to a syntax tree (jinja2/parser.py, version 3.1).
#pragma once

#include <memory>
#include <string_view>

#include "chat/jinja_ast.h"

namespace gantry::jinja {

// Throws Failure: kInvalidArgument with the line for a syntax error, kUnimplemented for a construct outside
// the subset, kResourceExhausted for nesting past limits::kTemplateDepthMax.
std::unique_ptr<Ast> parse_template(std::string_view source);

}  // namespace gantry::jinja

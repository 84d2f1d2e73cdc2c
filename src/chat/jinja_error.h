// How the template engine fails inside: an exception that chat_template.cc turns into a Status; none leaves
// the module.
#pragma once

#include <string>
#include <utility>

#include "base/status.h"

namespace gantry::jinja {

struct Failure {
  Status status;
};

// Python's TypeError, UndefinedError and the like: the template or the messages are wrong.
[[noreturn]] inline void fail(std::string message) { throw Failure{invalid_argument(std::move(message))}; }
// Jinja that exists but that Gantry does not run.
[[noreturn]] inline void refuse(std::string what) {
  throw Failure{unimplemented(std::move(what) + " is outside the Jinja subset of chat templates")};
}
// A limit of base/limits.h is reached.
[[noreturn]] inline void exhaust(std::string message) {
  throw Failure{resource_exhausted(std::move(message))};
}

}  // namespace gantry::jinja

// Errors as values. Status is for expected failures (a file, a request, capacity, a peer); CHECK is for our
// bugs.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "base/check.h"

namespace gantry {

enum class StatusCode {
  kOk,
  kInvalidArgument,    // the caller's value is wrong; `param` names it where there is one
  kNotFound,           // a file, model, tensor or request does not exist
  kDataLoss,           // a file is truncated, lies about itself, or fails its checksum
  kResourceExhausted,  // memory, KV blocks, queue space, or a limit of base/limits.h
  kUnavailable,        // not ready, draining, or a peer is gone: a retry may succeed
  kDeadlineExceeded,
  kCancelled,
  kUnimplemented,  // refused by name, with what is supported
  kInternal,       // our bug, contained
};

std::string_view to_string(StatusCode code);

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message, std::string param = {})
      : code_(code), message_(std::move(message)), param_(std::move(param)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  // One line; names what is wrong and what would be right.
  const std::string& message() const { return message_; }
  // The request parameter, flag or configuration key at fault; empty if none.
  const std::string& param() const { return param_; }
  // The same error with `context + ": "` before its message.
  Status with_context(std::string_view context) const;

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
  std::string param_;
};

Status invalid_argument(std::string message, std::string param = {});
Status not_found(std::string message);
Status data_loss(std::string message);
Status resource_exhausted(std::string message);
Status unavailable(std::string message);
Status unimplemented(std::string message, std::string param = {});
Status internal_error(std::string message);

// A value or the reason there is none. value() on an error is a CHECK failure.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<1>, std::move(value)) {}        // NOLINT: implicit by design
  Result(Status status) : state_(std::in_place_index<0>, std::move(status)) {  // NOLINT: implicit by design
    GANTRY_CHECK(!std::get<0>(state_).ok()) << "a Result needs a value or an error";
  }

  bool ok() const { return state_.index() == 1; }
  Status status() const { return ok() ? Status() : std::get<0>(state_); }
  T& value() & {
    GANTRY_CHECK(ok()) << std::get<0>(state_).message();
    return std::get<1>(state_);
  }
  const T& value() const& {
    GANTRY_CHECK(ok()) << std::get<0>(state_).message();
    return std::get<1>(state_);
  }
  T&& value() && {
    GANTRY_CHECK(ok()) << std::get<0>(state_).message();
    return std::get<1>(std::move(state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::variant<Status, T> state_;
};

#define GANTRY_CONCAT_INNER(a, b) a##b
#define GANTRY_CONCAT(a, b) GANTRY_CONCAT_INNER(a, b)
// Leaves the function with the error of `expr` (a Status), if it is one.
#define GANTRY_RETURN_IF_ERROR(expr)                                                           \
  do {                                                                                         \
    if (::gantry::Status gantry_status_ = (expr); !gantry_status_.ok()) return gantry_status_; \
  } while (false)
// `decl` = value of `expr` (a Result), or leaves the function with its error.
#define GANTRY_ASSIGN_OR_RETURN(decl, expr) \
  GANTRY_ASSIGN_OR_RETURN_INNER(GANTRY_CONCAT(gantry_result_, __LINE__), decl, expr)
#define GANTRY_ASSIGN_OR_RETURN_INNER(result, decl, expr) \
  auto result = (expr);                                   \
  if (!result.ok()) return result.status();               \
  decl = std::move(result).value()

}  // namespace gantry

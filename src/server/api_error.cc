#include "server/api_error.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "server/json_writer.h"

namespace gantry {
namespace {

struct Kind {
  std::string_view type;
  std::string_view code;
};

Kind kind_of(int status) {
  switch (status) {
    case 401:
      return {"authentication_error", "invalid_api_key"};
    case 404:
      return {"invalid_request_error", "not_found"};
    case 405:
      return {"invalid_request_error", "method_not_allowed"};
    case 408:
      return {"timeout_error", "timeout"};
    case 413:
      return {"invalid_request_error", "request_too_large"};
    case 415:
      return {"invalid_request_error", "unsupported_media_type"};
    case 429:
      return {"rate_limit_exceeded", "rate_limit_exceeded"};
    case 431:
      return {"invalid_request_error", "headers_too_large"};
    case 500:
      return {"server_error", "internal_error"};
    case 503:
      return {"service_unavailable", "service_unavailable"};
    default:
      return {"invalid_request_error", ""};
  }
}

// What of an internal failure is shown: it may hold paths or addresses.
std::string shown_message(const Status& status, std::string_view request_id) {
  if (http_status(status.code()) != 500) return status.message();
  return fmt::format("the server failed on this request; its id is {}", request_id);
}

void write_or_null(JsonWriter& out, std::string_view text) {
  if (text.empty()) {
    out.null();
  } else {
    out.value(text);
  }
}

}  // namespace

std::string error_body(int status, std::string_view message, const ErrorDetail& detail) {
  const Kind kind = kind_of(status);
  std::string body;
  JsonWriter out(body);
  out.object().key("error").object().key("message").value(message).key("type").value(kind.type).key("param");
  write_or_null(out, detail.param);
  out.key("code");
  write_or_null(out, detail.code.empty() ? kind.code : detail.code);
  out.end_object().end_object();
  return body;
}

HttpResponse error_response(int status, std::string_view message, const ErrorDetail& detail) {
  HttpResponse response;
  response.status = status;
  response.body = error_body(status, message, detail);
  if (status == 429 || status == 503) {
    response.headers.push_back({"Retry-After", std::to_string(detail.retry_after_seconds)});
  }
  if (status == 401) response.headers.push_back({"WWW-Authenticate", "Bearer"});
  return response;
}

int retry_after_seconds(double wait_s) { return static_cast<int>(std::clamp(std::ceil(wait_s), 1.0, 60.0)); }

int http_status(StatusCode code) {
  switch (code) {
    case StatusCode::kOk:
      return 200;
    case StatusCode::kInvalidArgument:
    case StatusCode::kUnimplemented:
      return 400;
    case StatusCode::kNotFound:
      return 404;
    case StatusCode::kDeadlineExceeded:
      return 408;
    case StatusCode::kResourceExhausted:
      return 429;
    case StatusCode::kUnavailable:
    case StatusCode::kCancelled:
      return 503;
    case StatusCode::kDataLoss:
    case StatusCode::kInternal:
      return 500;
  }
  return 500;
}

HttpResponse error_response(const Status& status, std::string_view request_id, int retry_after_seconds) {
  const bool unknown_model = status.code() == StatusCode::kNotFound && status.param() == "model";
  return error_response(http_status(status.code()), shown_message(status, request_id),
                        {.param = status.param(),
                         .code = unknown_model ? "model_not_found" : "",
                         .retry_after_seconds = retry_after_seconds});
}

std::string error_body(const Status& status, std::string_view request_id) {
  return error_body(http_status(status.code()), shown_message(status, request_id), {.param = status.param()});
}

}  // namespace gantry

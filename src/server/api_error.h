// Error answers: {"error": {"message", "type", "param", "code"}}, as OpenAI's clients read them.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "server/http.h"

namespace gantry {

struct ErrorDetail {
  std::string_view param = {};  // empty: null
  std::string_view code = {};   // empty: the status's own, or null
  int retry_after_seconds = 1;  // with 429 and 503
};

HttpResponse error_response(int status, std::string_view message, const ErrorDetail& detail = {});
// The object alone, for a stream that has begun.
std::string error_body(int status, std::string_view message, const ErrorDetail& detail = {});

// Whole seconds for Retry-After: 1 to 60, as OpenAI's clients give up on more than 120.
int retry_after_seconds(double wait_s);

// The HTTP status for a failed request: 400, 404, 408, 429, 500, 503. The text of an internal error is
// replaced.
int http_status(StatusCode code);
HttpResponse error_response(const Status& status, std::string_view request_id, int retry_after_seconds = 1);
std::string error_body(const Status& status, std::string_view request_id);

}  // namespace gantry

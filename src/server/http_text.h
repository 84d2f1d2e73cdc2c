// The text of an HTTP/1.1 answer's head.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "server/http.h"

namespace gantry {

struct ResponseHeadInfo {
  std::string_view request_id;
  std::optional<size_t> content_length;  // absent: a stream
  bool chunked = false;
  bool close = false;
};

// Status line, fields and the blank line. Fields with a control character in their value are left out.
std::string format_head(const HttpResponse& response, const ResponseHeadInfo& info);

std::string_view reason_phrase(int status);

// The client's X-Request-Id if it is 1 .. limits::kRequestIdBytesMax letters, digits, '.', '_' or '-'; else a
// new random one.
std::string request_id(const std::string* sent);

}  // namespace gantry

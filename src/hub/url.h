// What the client needs of URLs (RFC 3986), through libcurl's parser, so that it and the transfer agree.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace gantry::hub {

struct UrlParts {
  std::string scheme;  // "http" or "https"
  std::string host;    // lower case
  std::string port;    // the scheme's own where none is written
  bool has_credentials = false;

  // Whether the same server answers for both: what may see a token of one may see it of the other.
  bool same_origin(const UrlParts& other) const {
    return scheme == other.scheme && host == other.host && port == other.port;
  }
  bool is_loopback() const;  // 127.0.0.0/8, ::1 or localhost
};

// kInvalidArgument: not an absolute http or https URL of at most limits::kHubUrlBytesMax bytes.
Result<UrlParts> parse_url(const std::string& url);

// `location` of an answer to `base`, absolute.
Result<std::string> join_url(const std::string& base, const std::string& location);

// Everything but letters, digits and "-._~" as %XX; '/' too unless keep_slash.
std::string percent_encode(std::string_view text, bool keep_slash);

// For messages: without query and fragment, which may hold a signature.
std::string url_for_messages(std::string_view url);

}  // namespace gantry::hub

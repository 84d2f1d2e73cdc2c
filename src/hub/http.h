// One HTTP/1.1 connection at a time over libcurl: one GET, one answer, no redirect followed, certificates checked.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "hub/settings.h"
#include "hub/stop_signal.h"

namespace gantry::hub {

// How one try of something ended.
struct Attempt {
  Status status;
  bool retry = false;  // the same request may succeed later
  std::optional<int64_t> retry_after_s{};
};

struct HttpHead {
  int status = 0;
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case

  // The first header of that lower-case name; empty if there is none.
  std::string_view header(std::string_view name) const;
  // Of Retry-After, seconds or a date (RFC 9110 section 10.2.3).
  std::optional<int64_t> retry_after_s() const;
};

struct ByteRange {
  uint64_t begin = 0;
  uint64_t end = 0;  // one behind the last
};

struct HttpRequest {
  std::string url;
  std::string token;  // for the Authorization header; empty: none
  std::optional<ByteRange> range{};
};

// Called in the thread of perform(). An error ends the transfer and is what perform() returns.
struct HttpHandlers {
  std::function<Attempt(const HttpHead&)> on_head;
  std::function<Attempt(std::string_view)> on_body;
};

class HttpConnection {
 public:
  // Both outlive the connection.
  HttpConnection(const Settings& settings, const StopSignal& stop);

  // Connections are kept and used again. Transport errors (connect, stall, a body shorter than announced) are
  // kUnavailable with `retry`; a certificate that does not verify is not retried; a stop is kCancelled.
  Attempt perform(const HttpRequest& request, const HttpHandlers& handlers);

 private:
  struct Close {
    void operator()(void* curl) const;
  };
  const Settings& settings_;
  const StopSignal& stop_;
  std::unique_ptr<void, Close> curl_;
};

}  // namespace gantry::hub

#include "server/http_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <random>

#include "base/limits.h"

namespace gantry {
namespace {

// IMF-fixdate (RFC 9110, 5.6.7), made once a second on each thread.
const std::string& http_date() {
  thread_local std::time_t last = -1;
  thread_local std::string text;
  const std::time_t now = std::time(nullptr);
  if (now != last) {
    static constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                              "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    std::tm utc{};
    gmtime_r(&now, &utc);
    text = fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT", kDays[utc.tm_wday], utc.tm_mday,
                       kMonths[utc.tm_mon], utc.tm_year + 1900, utc.tm_hour, utc.tm_min, utc.tm_sec);
    last = now;
  }
  return text;
}

bool has_control(std::string_view value) {
  return std::any_of(value.begin(), value.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; });
}

}  // namespace

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Unknown";
  }
}

std::string format_head(const HttpResponse& response, const ResponseHeadInfo& info) {
  std::string out;
  out.reserve(320);
  fmt::format_to(std::back_inserter(out), "HTTP/1.1 {} {}\r\nDate: {}\r\n", response.status,
                 reason_phrase(response.status), http_date());
  if (!response.content_type.empty())
    out.append("Content-Type: ").append(response.content_type).append("\r\n");
  if (info.content_length)
    fmt::format_to(std::back_inserter(out), "Content-Length: {}\r\n", *info.content_length);
  if (info.chunked) out.append("Transfer-Encoding: chunked\r\n");
  out.append("X-Request-Id: ").append(info.request_id).append("\r\n");
  for (const HttpHeader& field : response.headers) {
    if (!has_control(field.value)) out.append(field.name).append(": ").append(field.value).append("\r\n");
  }
  if (info.close) out.append("Connection: close\r\n");
  return out.append("\r\n");
}

std::string request_id(const std::string* sent) {
  const auto valid = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
           c == '_' || c == '-';
  };
  if (sent != nullptr && !sent->empty() && sent->size() <= limits::kRequestIdBytesMax &&
      std::all_of(sent->begin(), sent->end(), valid)) {
    return *sent;
  }
  thread_local std::mt19937_64 generator{(static_cast<uint64_t>(std::random_device{}()) << 32) |
                                         std::random_device{}()};
  return fmt::format("req-{:016x}{:016x}", generator(), generator());
}

}  // namespace gantry

#include "hub/http.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <ctime>
#include <mutex>

#include "hub/hub_limits.h"

namespace gantry::hub {
namespace {

constexpr long kReceiveBufferBytes = 512 << 10;

// What the callbacks of one transfer share.
struct Transfer {
  const HttpHandlers& handlers;
  const StopSignal& stop;
  HttpHead head{};
  size_t header_bytes = 0;
  bool head_done = false;
  Attempt failed{};

  // Keeps the first failure; false ends the transfer.
  bool accept(Attempt attempt) {
    if (attempt.status.ok()) return true;
    if (failed.status.ok()) failed = std::move(attempt);
    return false;
  }
};

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

// "HTTP/1.1 206 Partial Content" → 206; 0 for anything else.
int status_of(std::string_view line) {
  const size_t space = line.find(' ');
  int status = 0;
  if (space != std::string_view::npos)
    std::from_chars(line.data() + space + 1, line.data() + line.size(), status);
  return status;
}

size_t on_header(char* data, size_t size, size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const std::string_view line(data, size * count);
  if (transfer.head_done) return line.size();  // trailers of a chunked body
  if (line.starts_with("HTTP/")) {
    transfer.head = HttpHead{.status = status_of(line), .headers = {}};
    return line.size();
  }
  transfer.header_bytes += line.size();
  if (transfer.header_bytes > limits::kHubHeaderBytesMax ||
      transfer.head.headers.size() >= limits::kHubHeadersMax) {
    transfer.accept({data_loss(fmt::format("the answer has more than {} headers or {} bytes of them",
                                           limits::kHubHeadersMax, limits::kHubHeaderBytesMax))});
    return 0;
  }
  if (trim(line).empty()) {
    if (transfer.head.status / 100 == 1) return line.size();
    transfer.head_done = true;
    return transfer.accept(transfer.handlers.on_head(transfer.head)) ? line.size() : 0;
  }
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return line.size();
  std::string name(trim(line.substr(0, colon)));
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
  transfer.head.headers.emplace_back(std::move(name), trim(line.substr(colon + 1)));
  return line.size();
}

size_t on_body(char* data, size_t size, size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  return transfer.accept(transfer.handlers.on_body({data, size * count})) ? size * count : 0;
}

int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<const Transfer*>(user)->stop.requested() ? 1 : 0;
}

void init_curl_once() {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
}

// Errors of trust do not go away by trying again.
bool is_trust_error(CURLcode code) {
  return code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
         code == CURLE_SSL_ISSUER_ERROR || code == CURLE_SSL_CERTPROBLEM ||
         code == CURLE_UNSUPPORTED_PROTOCOL;
}

}  // namespace

std::string_view HttpHead::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return {};
}

std::optional<int64_t> HttpHead::retry_after_s() const {
  const std::string text(header("retry-after"));
  if (text.empty()) return std::nullopt;
  int64_t seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error == std::errc() && end == text.data() + text.size()) return std::max<int64_t>(0, seconds);
  const time_t date = curl_getdate(text.c_str(), nullptr);
  if (date == -1) return std::nullopt;
  return std::max<int64_t>(0, static_cast<int64_t>(date) - static_cast<int64_t>(std::time(nullptr)));
}

void HttpConnection::Close::operator()(void* curl) const { curl_easy_cleanup(curl); }

HttpConnection::HttpConnection(const Settings& settings, const StopSignal& stop)
    : settings_(settings), stop_(stop) {
  init_curl_once();
  curl_.reset(curl_easy_init());
}

Attempt HttpConnection::perform(const HttpRequest& request, const HttpHandlers& handlers) {
  CURL* curl = curl_.get();
  if (curl == nullptr) return {resource_exhausted("no memory for a connection")};
  Transfer transfer{.handlers = handlers, .stop = stop_};
  char message[CURL_ERROR_SIZE] = "";
  curl_easy_reset(curl);
  curl_easy_setopt(curl, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  curl_easy_setopt(curl, CURLOPT_USERAGENT, settings_.user_agent.c_str());
  curl_easy_setopt(curl, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, kReceiveBufferBytes);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, static_cast<long>(limits::kHubConnectSeconds));
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, static_cast<long>(settings_.stall_seconds));
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, message);
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &transfer);
  if (!settings_.ca_file.empty()) curl_easy_setopt(curl, CURLOPT_CAINFO, settings_.ca_file.c_str());
  std::string range;
  if (request.range) {
    range = fmt::format("{}-{}", request.range->begin, request.range->end - 1);
    curl_easy_setopt(curl, CURLOPT_RANGE, range.c_str());
  }
  std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers(nullptr, &curl_slist_free_all);
  if (!request.token.empty()) {
    headers.reset(curl_slist_append(nullptr, ("Authorization: Bearer " + request.token).c_str()));
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
  }
  const CURLcode code = curl_easy_perform(curl);
  if (stop_.requested()) return {Status(StatusCode::kCancelled, "stopped")};
  if (!transfer.failed.status.ok()) return transfer.failed;
  if (code != CURLE_OK) {
    const char* reason = message[0] != '\0' ? message : curl_easy_strerror(code);
    return {
        unavailable(fmt::format("{}: {}", url_for_messages(request.url), reason)), !is_trust_error(code), {}};
  }
  if (!transfer.head_done) return {unavailable(url_for_messages(request.url) + ": no answer"), true, {}};
  return {};
}

}  // namespace gantry::hub

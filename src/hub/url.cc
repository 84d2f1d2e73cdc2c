#include "hub/url.h"

#include <curl/curl.h>

#include <algorithm>
#include <memory>

#include "formats/quote_name.h"
#include "hub/hub_limits.h"

namespace gantry::hub {
namespace {

using Url = std::unique_ptr<CURLU, decltype(&curl_url_cleanup)>;

std::string part_of(CURLU* url, CURLUPart part, unsigned flags) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK) return {};
  const std::unique_ptr<char, decltype(&curl_free)> owner(text, &curl_free);
  return text;
}

Status bad_url(std::string_view url) {
  return invalid_argument(quote_name(url_for_messages(url)) + " is not the URL of an http or https server");
}

}  // namespace

bool UrlParts::is_loopback() const {
  return host == "localhost" || host == "[::1]" ||
         (host.starts_with("127.") &&
          std::all_of(host.begin(), host.end(), [](char c) { return c == '.' || (c >= '0' && c <= '9'); }));
}

Result<UrlParts> parse_url(const std::string& text) {
  const Url url(curl_url(), &curl_url_cleanup);
  if (!url) return resource_exhausted("no memory for a URL");
  if (text.size() > limits::kHubUrlBytesMax || text.find('\0') != std::string::npos ||
      curl_url_set(url.get(), CURLUPART_URL, text.c_str(), 0) != CURLUE_OK) {
    return bad_url(text);
  }
  UrlParts parts;
  parts.scheme = part_of(url.get(), CURLUPART_SCHEME, 0);
  parts.host = part_of(url.get(), CURLUPART_HOST, 0);
  parts.port = part_of(url.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT);
  parts.has_credentials = !part_of(url.get(), CURLUPART_USER, 0).empty();
  std::transform(parts.host.begin(), parts.host.end(), parts.host.begin(),
                 [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
  if ((parts.scheme != "http" && parts.scheme != "https") || parts.host.empty()) return bad_url(text);
  return parts;
}

Result<std::string> join_url(const std::string& base, const std::string& location) {
  const Url url(curl_url(), &curl_url_cleanup);
  if (!url) return resource_exhausted("no memory for a URL");
  if (location.size() > limits::kHubUrlBytesMax || location.find('\0') != std::string::npos ||
      curl_url_set(url.get(), CURLUPART_URL, base.c_str(), 0) != CURLUE_OK ||
      curl_url_set(url.get(), CURLUPART_URL, location.c_str(), 0) != CURLUE_OK) {
    return bad_url(location);
  }
  return part_of(url.get(), CURLUPART_URL, 0);
}

std::string percent_encode(std::string_view text, bool keep_slash) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_' || c == '~' || (keep_slash && c == '/');
    if (plain) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return out;
}

std::string url_for_messages(std::string_view url) {
  return std::string(url.substr(0, url.find_first_of("?#")));
}

}  // namespace gantry::hub

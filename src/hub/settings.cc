#include "hub/settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>

#include "base/log.h"
#include "formats/quote_name.h"
#include "formats/regular_file.h"
#include "hub/hub_limits.h"

namespace gantry::hub {
namespace {

// huggingface_hub's notion of a set switch.
bool is_true(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return text == "1" || text == "ON" || text == "YES" || text == "TRUE";
}

// libcurl was built for Debian; a copied binary finds other distributions' certificates (Fedora, openSUSE, Alpine).
std::string system_ca_file() {
  for (const char* path : {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                           "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"}) {
    if (path_exists(path)) return path;
  }
  return {};
}

class Reader {
 public:
  explicit Reader(const Environment& environment) : environment_(environment) {}

  // An empty variable counts as unset.
  std::string value(const char* name) const { return environment_(name).value_or(""); }

  // "~" at the start and $NAME or ${NAME} anywhere, as huggingface_hub expands them.
  std::string expand(const std::string& path) const {
    std::string out;
    size_t i = 0;
    if (path == "~" || path.starts_with("~/")) {
      out = home();
      i = 1;
    }
    while (i < path.size()) {
      const bool braces = path.compare(i, 2, "${") == 0;
      const size_t begin = i + (braces ? 2 : 1);
      size_t end = begin;
      while (end < path.size() &&
             (std::isalnum(static_cast<unsigned char>(path[end])) != 0 || path[end] == '_'))
        ++end;
      const bool name = path[i] == '$' && end > begin && (!braces || (end < path.size() && path[end] == '}'));
      const auto found = name ? environment_(path.substr(begin, end - begin).c_str()) : std::nullopt;
      if (found) {
        out += *found;
        i = end + (braces ? 1 : 0);
      } else {
        out += path[i++];
      }
    }
    return out;
  }

  std::string home() const {
    const std::string home = value("HOME");
    return home.empty() ? "." : home;
  }

  std::string hf_home() const {
    if (const std::string path = value("HF_HOME"); !path.empty()) return expand(path);
    const std::string cache = value("XDG_CACHE_HOME");
    return expand((cache.empty() ? home() + "/.cache" : cache) + "/huggingface");
  }

  std::string cache_dir() const {
    for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
      if (const std::string path = value(name); !path.empty()) return expand(path);
    }
    return hf_home() + "/hub";
  }

  // The token and where it came from.
  Result<std::string> token() const {
    if (is_true(value("HF_HUB_DISABLE_IMPLICIT_TOKEN"))) return std::string();
    for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}) {
      if (const std::string text = value(name); !text.empty()) return clean_token(text, name);
    }
    std::string path = value("HF_TOKEN_PATH");
    path = path.empty() ? hf_home() + "/token" : expand(path);
    if (!path_exists(path)) return std::string();
    GANTRY_ASSIGN_OR_RETURN(const std::string text, read_file(path, limits::kHubTokenBytesMax));
    return clean_token(text, path);
  }

 private:
  // Without surrounding white space. What a header cannot hold is refused without being shown.
  static Result<std::string> clean_token(const std::string& text, const std::string& where) {
    constexpr const char* kSpace = " \t\r\n";
    const size_t begin = text.find_first_not_of(kSpace);
    if (begin == std::string::npos) return std::string();
    std::string token = text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
    const bool plain = std::all_of(token.begin(), token.end(), [](char c) { return c > 0x20 && c < 0x7f; });
    if (!plain || token.size() > limits::kHubTokenBytesMax) {
      return invalid_argument(where + " holds no token: a token is one word of letters, digits and signs");
    }
    return token;
  }

  const Environment& environment_;
};

Status read_endpoint(const std::string& text, Settings& settings) {
  if (!text.empty()) settings.endpoint = text;
  while (settings.endpoint.ends_with('/')) settings.endpoint.pop_back();
  auto origin = parse_url(settings.endpoint);
  if (!origin.ok() || origin->has_credentials || settings.endpoint.find_first_of("?#") != std::string::npos) {
    return invalid_argument(
        "HF_ENDPOINT must be a URL such as https://huggingface.co, without a user and a query",
        "HF_ENDPOINT");
  }
  settings.origin = std::move(origin).value();
  if (settings.origin.scheme == "http" && !settings.origin.is_loopback() && !settings.token.empty()) {
    log::warn("HF_ENDPOINT is http: the token goes to {} unencrypted", settings.origin.host);
  }
  return {};
}

}  // namespace

Result<Settings> read_settings(const Environment& environment, std::string user_agent) {
  const Reader reader(environment);
  Settings settings;
  settings.user_agent = std::move(user_agent);
  settings.cache_dir = reader.cache_dir();
  settings.ca_file = reader.value("SSL_CERT_FILE");
  if (settings.ca_file.empty()) settings.ca_file = system_ca_file();
  const std::string offline = reader.value("HF_HUB_OFFLINE");
  settings.offline = is_true(offline.empty() ? reader.value("TRANSFORMERS_OFFLINE") : offline);
  GANTRY_ASSIGN_OR_RETURN(settings.token, reader.token());
  GANTRY_RETURN_IF_ERROR(read_endpoint(reader.value("HF_ENDPOINT"), settings));
  if (const std::string text = reader.value("HF_HUB_DOWNLOAD_TIMEOUT"); !text.empty()) {
    const bool digits = text.size() <= 4 &&
                        std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
    const int seconds = digits ? std::atoi(text.c_str()) : 0;
    if (seconds < 1 || seconds > limits::kHubStallSecondsMax) {
      return invalid_argument(fmt::format("HF_HUB_DOWNLOAD_TIMEOUT is {}, it must be 1 to {} seconds",
                                          quote_name(text), limits::kHubStallSecondsMax),
                              "HF_HUB_DOWNLOAD_TIMEOUT");
    }
    settings.stall_seconds = seconds;
  }
  return settings;
}

Result<Settings> read_settings(std::string user_agent) {
  return read_settings(
      [](const char* name) -> std::optional<std::string> {
        const char* value = std::getenv(name);
        if (value == nullptr) return std::nullopt;
        return value;
      },
      std::move(user_agent));
}

}  // namespace gantry::hub

// A GET to the hub that may lead to other servers: the token goes to the hub alone, and errors say what to do.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "hub/http.h"
#include "hub/repo_name.h"

namespace gantry::hub {

struct FetchHandlers {
  // The hub's own redirects, before they are followed; may be empty.
  std::function<Attempt(const HttpHead&)> on_redirect;
  // The head of the final answer, 200 or 206. from_hub: the hub itself sent it.
  std::function<Attempt(const HttpHead&, bool from_hub)> on_head;
  std::function<Attempt(std::string_view)> on_body;
};

// One thread's way to the hub. What it is given outlives it.
class Fetcher {
 public:
  Fetcher(const Settings& settings, RepoName repo, const StopSignal& stop)
      : settings_(settings), repo_(std::move(repo)), connection_(settings, stop) {}

  const Settings& settings() const { return settings_; }
  const RepoName& repo() const { return repo_; }

  // Follows at most limits::kHubRedirectsMax redirects. Plain http is refused, except to a hub that HF_ENDPOINT
  // names with http, and from a hub on this machine to another server on it. The last URL asked is left in
  // `final_url` unless it is null.
  Attempt get(const std::string& url, std::optional<ByteRange> range, const FetchHandlers& handlers,
              std::string* final_url = nullptr);

  // The whole body of an answer to `url`, and its Link header.
  struct Document {
    std::string body;
    std::string link;
  };
  Attempt get_document(const std::string& url, Document& document);

 private:
  Status check_scheme(const UrlParts& parts, const std::string& url) const;
  Attempt error_of(const HttpHead& head, const std::string& url, bool from_hub) const;

  const Settings& settings_;
  RepoName repo_;
  HttpConnection connection_;
};

}  // namespace gantry::hub

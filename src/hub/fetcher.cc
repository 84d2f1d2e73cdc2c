#include "hub/fetcher.h"

#include <fmt/format.h>

#include "formats/quote_name.h"
#include "hub/hub_limits.h"

namespace gantry::hub {
namespace {

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

bool may_succeed_later(int status) {
  return status == 408 || status == 425 || status == 429 || status == 500 || status == 502 || status == 503 ||
         status == 504;
}

}  // namespace

Status Fetcher::check_scheme(const UrlParts& parts, const std::string& url) const {
  if (parts.scheme == "https" || parts.same_origin(settings_.origin)) return {};
  if (settings_.origin.scheme == "http" && settings_.origin.is_loopback() && parts.is_loopback()) return {};
  return data_loss("the hub redirects to " + quote_name(url_for_messages(url)) + ", which is not https");
}

Attempt Fetcher::error_of(const HttpHead& head, const std::string& url, bool from_hub) const {
  const std::string where = url_for_messages(url);
  const std::string id = repo_.id();
  const std::string_view code = head.header("x-error-code");
  const std::string token_advice =
      settings_.token.empty() ? "set HF_TOKEN to a token that may read it" : "the token may not read it";
  if (from_hub && code == "GatedRepo") {
    return {invalid_argument(fmt::format(
        "{} is gated ({}): ask for access at {}/{}, and {}", id, head.status, settings_.endpoint, id,
        settings_.token.empty() ? "set HF_TOKEN to a token of the account that has it"
                                : "use a token of the account that has it"))};
  }
  if (from_hub && head.status == 404 && code == "RevisionNotFound") {
    return {not_found(fmt::format("{} has no revision {}", id, quote_name(repo_.revision)))};
  }
  if (from_hub && head.status == 404 && code == "EntryNotFound") {
    return {not_found(fmt::format("{} is not there (404), although the hub lists it", where))};
  }
  if (from_hub && head.status == 404) {
    return {not_found(fmt::format("{} is not on {} (404): check the name; if it is private, {}", id,
                                  settings_.endpoint, token_advice))};
  }
  if (from_hub && head.status == 401) {
    return {invalid_argument(
        fmt::format("{} cannot be read (401): it is private or gated, or does not exist; {}", id,
                    settings_.token.empty() ? token_advice : "HF_TOKEN is wrong or too old"))};
  }
  if (from_hub && head.status == 403) {
    return {invalid_argument(fmt::format("{} cannot be read (403): {}", id, token_advice))};
  }
  std::string text = fmt::format("{} answered {}", where, head.status);
  if (const std::string_view said = head.header("x-error-message"); from_hub && !said.empty()) {
    text += ", " + quote_name(said);
  }
  if (head.status == 416) {
    return {data_loss(fmt::format("{} ({}): the content is not of the size that the hub lists", text,
                                  quote_name(head.header("content-range"))))};
  }
  if (may_succeed_later(head.status)) return {unavailable(text), true, head.retry_after_s()};
  return {data_loss(text)};
}

Attempt Fetcher::get(const std::string& url, std::optional<ByteRange> range, const FetchHandlers& handlers,
                     std::string* final_url) {
  std::string at = url;
  for (int hop = 0; hop <= limits::kHubRedirectsMax; ++hop) {
    auto parts = parse_url(at);
    if (!parts.ok()) return {parts.status()};
    if (Status status = check_scheme(*parts, at); !status.ok()) return {std::move(status)};
    const bool from_hub = parts->same_origin(settings_.origin);
    if (final_url != nullptr) *final_url = at;
    std::string location;
    const HttpHandlers http{
        .on_head = [&](const HttpHead& head) -> Attempt {
          if (is_redirect(head.status) && !head.header("location").empty()) {
            location = head.header("location");
            return from_hub && handlers.on_redirect ? handlers.on_redirect(head) : Attempt{};
          }
          if (head.status != 200 && head.status != 206) return error_of(head, at, from_hub);
          if (const std::string_view coding = head.header("content-encoding");
              !coding.empty() && coding != "identity") {
            return {data_loss(url_for_messages(at) + " answers in the coding " + quote_name(coding) +
                              ", which was not asked for")};
          }
          return handlers.on_head(head, from_hub);
        },
        .on_body = [&](std::string_view bytes) -> Attempt {
          return location.empty() ? handlers.on_body(bytes) : Attempt{};
        },
    };
    const Attempt attempt = connection_.perform(
        {.url = at, .token = from_hub ? settings_.token : std::string(), .range = range}, http);
    if (!attempt.status.ok() || location.empty()) return attempt;
    auto next = join_url(at, location);
    if (!next.ok()) return {next.status().with_context(url_for_messages(at) + " redirects")};
    at = std::move(next).value();
  }
  return {data_loss(
      fmt::format("{} redirects more than {} times", url_for_messages(url), limits::kHubRedirectsMax))};
}

Attempt Fetcher::get_document(const std::string& url, Document& document) {
  document = {};
  return get(url, std::nullopt,
             {.on_redirect = {},
              .on_head = [&](const HttpHead& head, bool) -> Attempt {
                document.link = head.header("link");
                return {};
              },
              .on_body = [&](std::string_view bytes) -> Attempt {
                if (document.body.size() + bytes.size() > limits::kHubJsonBytesMax) {
                  return {data_loss(fmt::format("{} sends more than {} bytes", url_for_messages(url),
                                                limits::kHubJsonBytesMax))};
                }
                document.body += bytes;
                return {};
              }});
}

}  // namespace gantry::hub

#include "cli/chat_client.h"

#include <curl/curl.h>

#include <memory>

namespace gantry::cli {
namespace {

constexpr size_t kErrorBodyBytesMax = 64u << 10;

using Curl = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;
using Headers = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;

Headers make_headers(const std::string& api_key) {
  curl_slist* list = curl_slist_append(nullptr, "Content-Type: application/json");
  if (!api_key.empty()) list = curl_slist_append(list, ("Authorization: Bearer " + api_key).c_str());
  return Headers(list, &curl_slist_free_all);
}

// The message of an OpenAI error body, or the body's start where it is none.
std::string error_message(const std::string& body, long code) {
  const auto json = nlohmann::json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (json.is_object() && json.contains("error") && json["error"].is_object() &&
      json["error"].contains("message") && json["error"]["message"].is_string()) {
    return json["error"]["message"].get<std::string>();
  }
  return "HTTP " + std::to_string(code) + ": " + body.substr(0, 200);
}

size_t append_body(char* data, size_t size, size_t count, void* user) {
  auto* body = static_cast<std::string*>(user);
  if (body->size() + size * count > kErrorBodyBytesMax) return 0;
  body->append(data, size * count);
  return size * count;
}

std::string string_at(const nlohmann::json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

struct Stream {
  CURL* curl;
  SseReader reader;
  std::string error_body;
  std::string error;
  bool done = false;
  const std::function<void(const ChatDelta&)>* on_delta;
};

void on_payload(Stream& stream, std::string_view payload) {
  if (payload == "[DONE]") {
    stream.done = true;
    return;
  }
  const auto json = nlohmann::json::parse(payload, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    stream.error = "the server sent an event that is no JSON object";
    return;
  }
  if (json.contains("error")) {
    stream.error = error_message(std::string(payload), 200);
    return;
  }
  const auto choices = json.find("choices");
  if (choices == json.end() || !choices->is_array() || choices->empty() || !(*choices)[0].is_object()) return;
  const auto& choice = (*choices)[0];
  ChatDelta delta;
  if (const auto it = choice.find("delta"); it != choice.end() && it->is_object()) {
    delta.content = string_at(*it, "content");
    delta.reasoning = string_at(*it, "reasoning_content");
  }
  delta.finish_reason = string_at(choice, "finish_reason");
  (*stream.on_delta)(delta);
}

size_t on_bytes(char* data, size_t size, size_t count, void* user) {
  auto* stream = static_cast<Stream*>(user);
  const size_t bytes = size * count;
  long code = 0;
  curl_easy_getinfo(stream->curl, CURLINFO_RESPONSE_CODE, &code);
  if (code != 200) return append_body(data, size, count, &stream->error_body);
  const bool ok =
      stream->reader.push({data, bytes}, [&](std::string_view payload) { on_payload(*stream, payload); });
  return ok && stream->error.empty() ? bytes : 0;
}

int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<const std::atomic<bool>*>(user)->load() ? 1 : 0;
}

}  // namespace

bool SseReader::push(std::string_view bytes, const std::function<void(std::string_view)>& on_data) {
  for (const char c : bytes) {
    if (c != '\n') {
      if (line_.size() >= kLineBytesMax) return false;
      line_.push_back(c);
      continue;
    }
    std::string_view line = line_;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with("data:")) {
      line.remove_prefix(line.starts_with("data: ") ? 6 : 5);
      on_data(line);
    }
    line_.clear();
  }
  return true;
}

ChatClient::ChatClient(std::string url, std::string api_key)
    : url_(std::move(url)), api_key_(std::move(api_key)) {
  static const CURLcode initialized = curl_global_init(CURL_GLOBAL_DEFAULT);
  GANTRY_CHECK(initialized == CURLE_OK);
}

Result<std::string> ChatClient::first_model() const {
  const Curl curl(curl_easy_init(), &curl_easy_cleanup);
  const Headers headers = make_headers(api_key_);
  std::string body;
  const std::string url = url_ + "/v1/models";
  curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl.get(), CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, append_body);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &body);
  curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT, 30L);
  if (const CURLcode code = curl_easy_perform(curl.get()); code != CURLE_OK) {
    return unavailable("no answer from " + url_ + ": " + curl_easy_strerror(code));
  }
  long code = 0;
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &code);
  if (code != 200) return unavailable(error_message(body, code));
  const auto json = nlohmann::json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("data") || !json["data"].is_array() || json["data"].empty() ||
      !json["data"][0].is_object()) {
    return unavailable(url_ + " lists no model");
  }
  return string_at(json["data"][0], "id");
}

Status ChatClient::stream(const nlohmann::ordered_json& request,
                          const std::function<void(const ChatDelta&)>& on_delta,
                          const std::atomic<bool>& stop) const {
  const Curl curl(curl_easy_init(), &curl_easy_cleanup);
  const Headers headers = make_headers(api_key_);
  const std::string url = url_ + "/v1/chat/completions";
  const std::string body = request.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  Stream stream{.curl = curl.get(), .reader = {}, .error_body = {}, .error = {}, .on_delta = &on_delta};
  curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl.get(), CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDS, body.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, on_bytes);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &stream);
  curl_easy_setopt(curl.get(), CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl.get(), CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(curl.get(), CURLOPT_XFERINFODATA, const_cast<std::atomic<bool>*>(&stop));
  const CURLcode code = curl_easy_perform(curl.get());
  if (stop.load()) return Status(StatusCode::kCancelled, "stopped");
  if (!stream.error.empty()) return unavailable(stream.error);
  if (code != CURLE_OK) return unavailable("the stream from " + url_ + " broke: " + curl_easy_strerror(code));
  long http = 0;
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &http);
  if (http != 200) return unavailable(error_message(stream.error_body, http));
  if (!stream.done) return unavailable("the stream ended before [DONE]");
  return {};
}

}  // namespace gantry::cli

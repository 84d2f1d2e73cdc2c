#include "cli/chat_client.h"

#include <curl/curl.h>

#include <memory>

#include "loadgen/openai_stream.h"

namespace gantry::cli {
namespace {

using Curl = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;
using Headers = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;

Headers make_headers(const std::string& api_key) {
  curl_slist* list = curl_slist_append(nullptr, "Content-Type: application/json");
  if (!api_key.empty()) list = curl_slist_append(list, ("Authorization: Bearer " + api_key).c_str());
  return Headers(list, &curl_slist_free_all);
}

size_t append_body(char* data, size_t size, size_t count, void* user) {
  auto* body = static_cast<std::string*>(user);
  if (body->size() + size * count > loadgen::kErrorBodyBytesMax) return 0;
  body->append(data, size * count);
  return size * count;
}

std::string string_at(const nlohmann::json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

struct Stream {
  CURL* curl;
  loadgen::SseReader reader;
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
    stream.error = loadgen::error_message(payload, 200);
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

ChatClient::ChatClient(std::string url, std::string api_key)
    : url_(std::move(url)), api_key_(std::move(api_key)) {
  static const CURLcode initialized = curl_global_init(CURL_GLOBAL_DEFAULT);
  GANTRY_CHECK(initialized == CURLE_OK);
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
  if (http != 200) return unavailable(loadgen::error_message(stream.error_body, static_cast<int>(http)));
  if (!stream.done) return unavailable("the stream ended before [DONE]");
  return {};
}

}  // namespace gantry::cli

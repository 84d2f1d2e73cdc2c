#include "loadgen/openai_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "loadgen/load_client.h"

namespace gantry::loadgen {
namespace {

using Json = nlohmann::json;

constexpr size_t kErrorTextBytesMax = 200;

bool has_text(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() && !it->get_ref<const std::string&>().empty();
}

// Text, reasoning, a tool call or token ids: what a model generated.
bool has_content(const Json& choice) {
  if (has_text(choice, "text")) return true;
  if (const auto ids = choice.find("token_ids"); ids != choice.end() && ids->is_array() && !ids->empty())
    return true;
  const auto delta = choice.find("delta");
  if (delta == choice.end() || !delta->is_object()) return false;
  const auto tools = delta->find("tool_calls");
  return has_text(*delta, "content") || has_text(*delta, "reasoning_content") ||
         has_text(*delta, "reasoning") || (tools != delta->end() && tools->is_array() && !tools->empty());
}

int64_t count_at(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_number_integer() ? std::max<int64_t>(0, it->get<int64_t>()) : 0;
}

void take_usage(const Json& usage, LoadRecord& record) {
  record.prompt_tokens = count_at(usage, "prompt_tokens");
  record.output_tokens = count_at(usage, "completion_tokens");
  const auto details = usage.find("prompt_tokens_details");
  if (details != usage.end() && details->is_object())
    record.cached_tokens = count_at(*details, "cached_tokens");
}

}  // namespace

std::string error_message(std::string_view body, int http_status) {
  const Json json = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (json.is_object() && json.contains("error")) {
    const Json& error = json["error"];
    if (error.is_string()) return error.get<std::string>();
    if (error.is_object() && error.contains("message") && error["message"].is_string())
      return error["message"].get<std::string>();
  }
  return fmt::format("HTTP {}: {}", http_status, body.substr(0, kErrorTextBytesMax));
}

bool OpenAiStream::push(std::string_view bytes, int http_status, int64_t now_ns, LoadRecord& record) {
  if (http_status != 200) {
    if (body_.size() + bytes.size() > kErrorBodyBytesMax) return false;
    body_.append(bytes);
    return true;
  }
  const bool ok = reader_.push(bytes, [&](std::string_view payload) { take(payload, now_ns, record); });
  if (!ok) error_ = "the server sent a line that does not end";
  return error_.empty();
}

void OpenAiStream::take(std::string_view payload, int64_t now_ns, LoadRecord& record) {
  if (done_ || !error_.empty()) return;
  if (payload == "[DONE]") {
    done_ = true;
    return;
  }
  if (++events_ > kStreamEventsMax) {
    error_ = fmt::format("the server sent more than {} events", kStreamEventsMax);
    return;
  }
  const Json json = Json::parse(payload, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    error_ = "the server sent an event that is no JSON object";
    return;
  }
  if (json.contains("error")) {
    error_ = error_message(payload, 200);
    return;
  }
  if (const auto usage = json.find("usage"); usage != json.end() && usage->is_object())
    take_usage(*usage, record);
  const auto choices = json.find("choices");
  if (choices == json.end() || !choices->is_array()) return;
  if (std::none_of(choices->begin(), choices->end(),
                   [](const Json& choice) { return choice.is_object() && has_content(choice); }))
    return;
  ++pieces_;
  if (record.first_ns == 0) {
    record.first_ns = now_ns;
  } else {
    record.gap_ns.push_back(now_ns - record.last_ns);
  }
  record.last_ns = now_ns;
}

void OpenAiStream::finish(const std::string& transport_error, int http_status, int64_t now_ns,
                          LoadRecord& record) {
  record.end_ns = now_ns;
  record.http_status = http_status;
  // A server without usage in its streams sends one piece of content per token.
  if (record.output_tokens == 0) record.output_tokens = pieces_;
  record.outcome = Outcome::kFailed;
  if (!error_.empty()) {
    record.error = error_;
  } else if (http_status == 429 || http_status == 503) {
    record.outcome = Outcome::kRefused;
    record.error = error_message(body_, http_status);
  } else if (!transport_error.empty()) {
    record.error = transport_error;
  } else if (http_status != 200) {
    record.error = error_message(body_, http_status);
  } else if (!done_) {
    record.error = "the stream ended before [DONE]";
  } else {
    record.outcome = Outcome::kCompleted;
  }
}

}  // namespace gantry::loadgen

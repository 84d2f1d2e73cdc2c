// A streaming client of /v1/chat/completions, for `gantry chat`.
#pragma once

#include <atomic>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/status.h"

namespace gantry::cli {

struct ChatDelta {
  std::string content;
  std::string reasoning;
  std::string finish_reason;  // empty until the last one
};

// Splits a server-sent event stream into the payloads of its data lines, however the bytes are cut. A line
// longer than kLineBytesMax is an error.
class SseReader {
 public:
  static constexpr size_t kLineBytesMax = 4u << 20;
  // False once a line was too long.
  bool push(std::string_view bytes, const std::function<void(std::string_view payload)>& on_data);

 private:
  std::string line_;
};

class ChatClient {
 public:
  // url: "http://127.0.0.1:8000", without /v1. api_key may be empty.
  ChatClient(std::string url, std::string api_key);
  // The first model that the server lists.
  Result<std::string> first_model() const;
  // Streams one answer. Returns when the stream ends, or with kCancelled once `stop` is set. An error that
  // the server sends is returned with its message.
  Status stream(const nlohmann::ordered_json& request, const std::function<void(const ChatDelta&)>& on_delta,
                const std::atomic<bool>& stop) const;

 private:
  std::string url_;
  std::string api_key_;
};

}  // namespace gantry::cli

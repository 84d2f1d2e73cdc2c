// A streaming client of /v1/chat/completions, for `gantry chat`.
#pragma once

#include <atomic>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "base/status.h"

namespace gantry::cli {

struct ChatDelta {
  std::string content;
  std::string reasoning;
  std::string finish_reason;  // empty until the last one
};

class ChatClient {
 public:
  // url: "http://127.0.0.1:8000", without /v1. api_key may be empty.
  ChatClient(std::string url, std::string api_key);
  // Streams one answer. Returns when the stream ends, or with kCancelled once `stop` is set. An error that
  // the server sends is returned with its message.
  Status stream(const nlohmann::ordered_json& request, const std::function<void(const ChatDelta&)>& on_delta,
                const std::atomic<bool>& stop) const;

 private:
  std::string url_;
  std::string api_key_;
};

}  // namespace gantry::cli

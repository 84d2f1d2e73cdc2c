// Server-sent events (HTML Living Standard, section 9.2) as OpenAI's streams use them.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace gantry::loadgen {

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

}  // namespace gantry::loadgen

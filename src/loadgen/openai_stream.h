// One answer of an OpenAI server as it comes in, streamed or an error body, turned into a LoadRecord.
#pragma once

#include <string>
#include <string_view>

#include "loadgen/record.h"
#include "loadgen/sse_reader.h"

namespace gantry::loadgen {

inline constexpr size_t kErrorBodyBytesMax = 64u << 10;

// The message of an OpenAI error body, or the body's start where it is none.
std::string error_message(std::string_view body, int http_status);

class OpenAiStream {
 public:
  // Takes bytes of the body as they arrive. False once the rest is of no use.
  bool push(std::string_view bytes, int http_status, int64_t now_ns, LoadRecord& record);
  // The transfer has ended: sets the record's outcome and error. `transport_error` is empty if it ended well.
  void finish(const std::string& transport_error, int http_status, int64_t now_ns, LoadRecord& record);

 private:
  void take(std::string_view payload, int64_t now_ns, LoadRecord& record);

  SseReader reader_;
  std::string body_;  // of an answer other than 200
  std::string error_;
  size_t events_ = 0;
  int64_t pieces_ = 0;  // of content
  bool done_ = false;
};

}  // namespace gantry::loadgen

// What is known of one request after it has ended: the raw material of every report.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gantry::loadgen {

enum class Outcome : uint8_t {
  kCompleted,
  kRefused,  // 429 or 503: not admitted
  kFailed,   // everything else; http_status 200 means that it was admitted and broke later
};

// Times are nanoseconds since the run began.
struct LoadRecord {
  int64_t index = 0;  // in the workload
  int64_t sent_ns = 0;
  int64_t first_ns = 0;         // first content; 0 if none came
  int64_t last_ns = 0;          // last content
  int64_t end_ns = 0;           // of the answer
  std::vector<int64_t> gap_ns;  // between one piece of content and the next (vllm's inter-token latency)
  Outcome outcome = Outcome::kFailed;
  int http_status = 0;  // 0: no answer
  std::string error;
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;
  int64_t cached_tokens = 0;  // of the prompt, found in the prefix cache
  int retry_after_s = -1;     // what a refusal says
};

}  // namespace gantry::loadgen

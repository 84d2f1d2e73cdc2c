// A client that keeps many streamed requests to one OpenAI server going, on one thread, and times their content.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/status.h"
#include "loadgen/record.h"
#include "loadgen/workload.h"

namespace gantry::loadgen {

// More than any answer has; a server that sends more is broken.
inline constexpr size_t kStreamEventsMax = 1u << 22;

struct Endpoint {
  std::string url = "http://127.0.0.1:8000";  // without /v1
  std::string api_key{};                      // empty: none
  std::string model{};
  bool chat = false;  // /v1/chat/completions instead of /v1/completions
  bool ignore_eos = false;
  double temperature = -1;                                          // negative: the server's default
  nlohmann::ordered_json extra = nlohmann::ordered_json::object();  // laid over every body
  double timeout_s = 600;                                           // of one request
};

struct LoadPlan {
  int64_t requests = 0;  // 0: as many as start within `seconds`
  double seconds = 0;    // 0: no limit; no request starts later
  // Poisson arrivals per second; infinite: all at once, up to max_concurrency.
  double request_rate = std::numeric_limits<double>::infinity();
  int32_t max_concurrency = 0;  // 0: no limit. What arrives beyond it starts when another has ended.
  int64_t first_index = 0;      // in the workload
  uint64_t seed = 0;            // of the arrivals
};

// The body of one request.
std::string request_body(const Endpoint& endpoint, const WorkloadItem& item);

// The first model that the server lists.
Result<std::string> first_model(const Endpoint& endpoint);

struct LoadProgress {
  int64_t done = 0;
  int64_t started = 0;
  double seconds = 0;
};
// Runs the plan to its end; once `stop` is set no request starts and those that run are given up (kFailed,
// "interrupted"). A record for each request, in the order they ended.
Result<std::vector<LoadRecord>> run_load(const Endpoint& endpoint, const Workload& workload,
                                         const LoadPlan& plan, const std::atomic<bool>& stop,
                                         const std::function<void(const LoadProgress&)>& on_progress);

}  // namespace gantry::loadgen

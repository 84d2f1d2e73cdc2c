// Latencies and throughput of a run, as vllm's bench defines them.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "loadgen/record.h"

namespace gantry::loadgen {

struct Distribution {
  size_t count = 0;
  double mean = 0;
  double stddev = 0;
  double min = 0;
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
  double max = 0;
};
// Percentiles interpolate linearly between neighbours, as numpy's do.
Distribution distribution(std::vector<double> values);

// A request counts towards goodput if it completes within all that are set.
struct Goals {
  std::optional<double> ttft_ms{};
  std::optional<double> tpot_ms{};
  std::optional<double> e2e_ms{};

  bool any() const { return ttft_ms || tpot_ms || e2e_ms; }
};
// "ttft:500", "tpot:50", "e2el:5000" (milliseconds), as vllm's --goodput takes them.
Result<Goals> parse_goals(const std::vector<std::string>& texts);

struct LoadReport {
  double seconds = 0;  // from the first request sent to the last answer
  size_t completed = 0;
  size_t refused = 0;
  size_t failed = 0;
  size_t admitted_then_failed = 0;  // of the failed: the server had answered 200
  int64_t prompt_tokens = 0;        // of completed requests
  int64_t cached_tokens = 0;
  int64_t output_tokens = 0;
  double requests_per_s = 0;
  double output_tokens_per_s = 0;
  double total_tokens_per_s = 0;
  std::optional<double> goodput_per_s;  // requests within the goals
  Distribution ttft_ms;                 // of completed requests, as all below
  Distribution tpot_ms;                 // (last content - first) / (output tokens - 1)
  Distribution itl_ms;                  // gaps between pieces of content
  Distribution e2e_ms;
  Distribution refusal_ms;  // until a refused request had its answer
  int retry_after_s_max = -1;
  std::map<std::string, size_t> errors;  // what failed and was refused, by message
};

LoadReport summarize(const std::vector<LoadRecord>& records, const Goals& goals);
nlohmann::ordered_json to_json(const LoadReport& report);
// One line per figure, for a terminal.
std::string to_table(const LoadReport& report);
// One object per request, for tools that draw their own figures.
nlohmann::ordered_json to_json(const LoadRecord& record);

}  // namespace gantry::loadgen

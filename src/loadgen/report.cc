#include "loadgen/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

namespace gantry::loadgen {
namespace {

constexpr double kMs = 1e-6;
constexpr size_t kErrorsShown = 5;

double percentile(const std::vector<double>& sorted, double fraction) {
  const double at = fraction * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<size_t>(at);
  const size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - static_cast<double>(low));
}

double ttft_of(const LoadRecord& r) { return static_cast<double>(r.first_ns - r.sent_ns) * kMs; }
double e2e_of(const LoadRecord& r) { return static_cast<double>(r.end_ns - r.sent_ns) * kMs; }
// Needs two tokens.
double tpot_of(const LoadRecord& r) {
  return static_cast<double>(r.last_ns - r.first_ns) * kMs / static_cast<double>(r.output_tokens - 1);
}

bool within(const LoadRecord& r, const Goals& goals) {
  if (goals.ttft_ms && (r.first_ns == 0 || ttft_of(r) > *goals.ttft_ms)) return false;
  if (goals.tpot_ms && r.output_tokens > 1 && tpot_of(r) > *goals.tpot_ms) return false;
  return !goals.e2e_ms || e2e_of(r) <= *goals.e2e_ms;
}

nlohmann::ordered_json to_json(const Distribution& d) {
  return {{"count", d.count}, {"mean", d.mean}, {"std", d.stddev}, {"min", d.min},
          {"p50", d.p50},     {"p90", d.p90},   {"p99", d.p99},    {"max", d.max}};
}

std::string row(const char* name, const Distribution& d) {
  if (d.count == 0) return {};
  return fmt::format("{:<14}{:>11.2f}{:>11.2f}{:>11.2f}{:>11.2f}{:>11.2f}\n", name, d.mean, d.p50, d.p90,
                     d.p99, d.max);
}

}  // namespace

Distribution distribution(std::vector<double> values) {
  Distribution d;
  d.count = values.size();
  if (values.empty()) return d;
  std::sort(values.begin(), values.end());
  const auto n = static_cast<double>(values.size());
  d.mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  const double squares = std::accumulate(values.begin(), values.end(), 0.0, [&](double sum, double v) {
    return sum + (v - d.mean) * (v - d.mean);
  });
  d.stddev = std::sqrt(squares / n);
  d.min = values.front();
  d.p50 = percentile(values, 0.50);
  d.p90 = percentile(values, 0.90);
  d.p99 = percentile(values, 0.99);
  d.max = values.back();
  return d;
}

Result<Goals> parse_goals(const std::vector<std::string>& texts) {
  Goals goals;
  for (const std::string& text : texts) {
    const size_t colon = text.find(':');
    const std::string name = text.substr(0, colon);
    double value = 0;
    bool good = colon != std::string::npos;
    if (good) {
      const char* end = text.data() + text.size();
      const auto parsed = std::from_chars(text.data() + colon + 1, end, value);
      good = parsed.ec == std::errc() && parsed.ptr == end && value > 0;
    }
    if (!good || (name != "ttft" && name != "tpot" && name != "e2el")) {
      return invalid_argument(
          fmt::format("--goodput \"{}\": write ttft:MS, tpot:MS or e2el:MS, such as ttft:500", text),
          "--goodput");
    }
    (name == "ttft" ? goals.ttft_ms : name == "tpot" ? goals.tpot_ms : goals.e2e_ms) = value;
  }
  return goals;
}

LoadReport summarize(const std::vector<LoadRecord>& records, const Goals& goals) {
  LoadReport report;
  std::vector<double> ttft, tpot, itl, e2e, refusal;
  int64_t begin_ns = 0;
  int64_t end_ns = 0;
  size_t good = 0;
  for (const LoadRecord& r : records) {
    begin_ns = &r == records.data() ? r.sent_ns : std::min(begin_ns, r.sent_ns);
    end_ns = std::max(end_ns, r.end_ns);
    if (r.outcome != Outcome::kCompleted) ++report.errors[r.error];
    if (r.outcome == Outcome::kRefused) {
      ++report.refused;
      refusal.push_back(e2e_of(r));
      report.retry_after_s_max = std::max(report.retry_after_s_max, r.retry_after_s);
      continue;
    }
    if (r.outcome == Outcome::kFailed) {
      ++report.failed;
      if (r.http_status == 200) ++report.admitted_then_failed;
      continue;
    }
    ++report.completed;
    report.prompt_tokens += r.prompt_tokens;
    report.cached_tokens += r.cached_tokens;
    report.output_tokens += r.output_tokens;
    if (r.first_ns != 0) ttft.push_back(ttft_of(r));
    if (r.output_tokens > 1) tpot.push_back(tpot_of(r));
    for (const int64_t gap : r.gap_ns) itl.push_back(static_cast<double>(gap) * kMs);
    e2e.push_back(e2e_of(r));
    if (within(r, goals)) ++good;
  }
  report.seconds = static_cast<double>(end_ns - begin_ns) * 1e-9;
  if (report.seconds > 0) {
    report.requests_per_s = static_cast<double>(report.completed) / report.seconds;
    report.output_tokens_per_s = static_cast<double>(report.output_tokens) / report.seconds;
    report.total_tokens_per_s =
        static_cast<double>(report.prompt_tokens + report.output_tokens) / report.seconds;
    if (goals.any()) report.goodput_per_s = static_cast<double>(good) / report.seconds;
  }
  report.ttft_ms = distribution(std::move(ttft));
  report.tpot_ms = distribution(std::move(tpot));
  report.itl_ms = distribution(std::move(itl));
  report.e2e_ms = distribution(std::move(e2e));
  report.refusal_ms = distribution(std::move(refusal));
  return report;
}

nlohmann::ordered_json to_json(const LoadReport& report) {
  nlohmann::ordered_json json{
      {"seconds", report.seconds},
      {"completed", report.completed},
      {"refused", report.refused},
      {"failed", report.failed},
      {"admitted_then_failed", report.admitted_then_failed},
      {"prompt_tokens", report.prompt_tokens},
      {"cached_tokens", report.cached_tokens},
      {"output_tokens", report.output_tokens},
      {"requests_per_s", report.requests_per_s},
      {"output_tokens_per_s", report.output_tokens_per_s},
      {"total_tokens_per_s", report.total_tokens_per_s},
  };
  if (report.goodput_per_s) json["goodput_per_s"] = *report.goodput_per_s;
  json["ttft_ms"] = to_json(report.ttft_ms);
  json["tpot_ms"] = to_json(report.tpot_ms);
  json["itl_ms"] = to_json(report.itl_ms);
  json["e2e_ms"] = to_json(report.e2e_ms);
  json["refusal_ms"] = to_json(report.refusal_ms);
  if (report.retry_after_s_max >= 0) json["retry_after_s_max"] = report.retry_after_s_max;
  json["errors"] = report.errors;
  return json;
}

std::string to_table(const LoadReport& report) {
  std::string out = fmt::format("completed {}, refused {}, failed {} in {:.2f} s\n", report.completed,
                                report.refused, report.failed, report.seconds);
  out += fmt::format("tokens: prompt {} ({} cached), output {}\n", report.prompt_tokens, report.cached_tokens,
                     report.output_tokens);
  out += fmt::format("per second: {:.2f} requests, {:.1f} output tokens, {:.1f} tokens\n",
                     report.requests_per_s, report.output_tokens_per_s, report.total_tokens_per_s);
  if (report.goodput_per_s)
    out += fmt::format("goodput: {:.2f} requests per second\n", *report.goodput_per_s);
  out += fmt::format("{:<14}{:>11}{:>11}{:>11}{:>11}{:>11}\n", "ms", "mean", "p50", "p90", "p99", "max");
  out += row("TTFT", report.ttft_ms);
  out += row("TPOT", report.tpot_ms);
  out += row("ITL", report.itl_ms);
  out += row("E2E", report.e2e_ms);
  out += row("refusal", report.refusal_ms);
  std::vector<std::pair<std::string, size_t>> errors(report.errors.begin(), report.errors.end());
  std::sort(errors.begin(), errors.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  for (size_t i = 0; i < errors.size(); ++i) {
    if (i == kErrorsShown) {
      out += fmt::format("and {} more kinds of error\n", errors.size() - i);
      break;
    }
    out += fmt::format("{} x {}\n", errors[i].second, errors[i].first);
  }
  return out;
}

nlohmann::ordered_json to_json(const LoadRecord& record) {
  static constexpr const char* kOutcomes[] = {"completed", "refused", "failed"};
  return {{"index", record.index},
          {"outcome", kOutcomes[static_cast<size_t>(record.outcome)]},
          {"http_status", record.http_status},
          {"error", record.error},
          {"sent_ns", record.sent_ns},
          {"first_ns", record.first_ns},
          {"last_ns", record.last_ns},
          {"end_ns", record.end_ns},
          {"gap_ns", record.gap_ns},
          {"prompt_tokens", record.prompt_tokens},
          {"cached_tokens", record.cached_tokens},
          {"output_tokens", record.output_tokens}};
}

}  // namespace gantry::loadgen

// Rows of results: printed as a table line, kept for the JSON file.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

namespace gantry::bench {

struct Row {
  std::string kernel;  // "decode_gemm", "expert_gate_up" ...
  std::string shape;
  std::string config;
  double us = 0;
  double bytes = 0;     // least that must move
  double flops = 0;     // least that must be computed
  double floor_us = 0;  // the larger of bytes over the measured read bandwidth and flops over `peak`
};

class Report {
 public:
  explicit Report(double bandwidth) : bandwidth_(bandwidth) {}

  // peak: FLOP/s of the unit that computes.
  void timing(Row row, double peak) {
    row.floor_us = std::max(row.bytes / bandwidth_, row.flops / peak) * 1e6;
    std::printf("%-16s %-34s %9.2f us %8.1f GB/s %8.1f TFLOPS  %5.1f%% of floor %.2f  [%s]\n",
                row.kernel.c_str(), row.shape.c_str(), row.us, row.bytes / row.us * 1e-3,
                row.flops / row.us * 1e-6, 100 * row.floor_us / row.us, row.floor_us, row.config.c_str());
    std::fflush(stdout);
    rows_.push_back(std::move(row));
  }

  void check(const std::string& what, double error, double tolerance) {
    const bool ok = error <= tolerance;  // false for NaN
    std::printf("%s %-60s error %.2e (at most %.0e)\n", ok ? "ok  " : "FAIL", what.c_str(), error, tolerance);
    std::fflush(stdout);
    ++checks_;
    if (!ok) ++failures_;
  }

  int checks() const { return checks_; }
  int failures() const { return failures_; }
  double bandwidth() const { return bandwidth_; }
  const std::vector<Row>& rows() const { return rows_; }

 private:
  double bandwidth_;
  std::vector<Row> rows_;
  int checks_ = 0, failures_ = 0;
};

// |actual - expected|_2 / |expected|_2; NaN where anything is not finite.
template <typename A, typename B>
double relative_error(const std::vector<A>& actual, const std::vector<B>& expected) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double d = static_cast<double>(actual[i]) - static_cast<double>(expected[i]);
    difference += d * d;
    size += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
  }
  return std::sqrt(difference / (size + 1e-300));
}

inline constexpr double kFp8Peak = 1979e12, kBf16Peak = 989e12;  // data sheet, dense

}  // namespace gantry::bench

#include "cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/log.h"

namespace gantry::cli {
namespace {

constexpr int64_t kBarIntervalNs = 100'000'000;
constexpr int64_t kLineIntervalNs = 2'000'000'000;

}  // namespace

Progress::Progress(std::string label, uint64_t known, Unit unit)
    : label_(std::move(label)),
      per_unit_(unit == Unit::kBytes ? 1 << 20 : 1),
      unit_(unit == Unit::kBytes ? "MiB" : "requests"),
      terminal_(isatty(STDERR_FILENO) == 1),
      known_(known),
      start_ns_(monotonic_ns()),
      shown_ns_(start_ns_) {}

void Progress::update(uint64_t done, uint64_t total) {
  if (done_) return;
  const int64_t now = monotonic_ns();
  done_ = done >= total;
  if (!done_ && now - shown_ns_ < (terminal_ ? kBarIntervalNs : kLineIntervalNs)) return;
  shown_ns_ = now;
  const double seconds = static_cast<double>(now - start_ns_) * 1e-9;
  const double amount = static_cast<double>(done) / per_unit_;
  const double total_amount = static_cast<double>(total) / per_unit_;
  const double new_amount = amount - static_cast<double>(known_) / per_unit_;
  const double rate = seconds > 0 ? std::max(0.0, new_amount) / seconds : 0;
  const double left = rate > 0 ? (total_amount - amount) / rate : 0;
  const int rate_digits = rate < 100 && per_unit_ == 1 ? 1 : 0;
  const std::string figures = fmt::format("{:.0f} of {:.0f} {}, {:.{}f} {}/s, {:.0f} s left", amount,
                                          total_amount, unit_, rate, rate_digits, unit_, left);
  if (!terminal_) {
    log::info("{}: {}", label_, figures);
    return;
  }
  constexpr int kWidth = 30;
  const int filled = done_ ? kWidth : static_cast<int>(done * kWidth / total);
  std::string bar(static_cast<size_t>(filled), '#');
  bar.resize(kWidth, '.');
  std::fprintf(stderr, "\r%s [%s] %s ", label_.c_str(), bar.c_str(), figures.c_str());
  line_open_ = true;
  if (done_) finish();
}

void Progress::finish() {
  if (line_open_) std::fputc('\n', stderr);
  line_open_ = false;
}

}  // namespace gantry::cli

#include "cli/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/log.h"

namespace gantry::cli {
namespace {

constexpr int64_t kBarIntervalNs = 100'000'000;
constexpr int64_t kLineIntervalNs = 2'000'000'000;

}  // namespace

Progress::Progress(std::string label, uint64_t known_bytes)
    : label_(std::move(label)),
      terminal_(isatty(STDERR_FILENO) == 1),
      known_bytes_(known_bytes),
      start_ns_(monotonic_ns()),
      shown_ns_(start_ns_) {}

void Progress::update(uint64_t done_bytes, uint64_t total_bytes) {
  if (done_) return;
  const int64_t now = monotonic_ns();
  done_ = done_bytes >= total_bytes;
  if (!done_ && now - shown_ns_ < (terminal_ ? kBarIntervalNs : kLineIntervalNs)) return;
  shown_ns_ = now;
  const double seconds = static_cast<double>(now - start_ns_) * 1e-9;
  const double mib = static_cast<double>(done_bytes) / (1 << 20);
  const double total_mib = static_cast<double>(total_bytes) / (1 << 20);
  const double new_mib = mib - static_cast<double>(known_bytes_) / (1 << 20);
  const double rate = seconds > 0 ? std::max(0.0, new_mib) / seconds : 0;
  const double left = rate > 0 ? (total_mib - mib) / rate : 0;
  if (!terminal_) {
    log::info("{}: {:.0f} of {:.0f} MiB, {:.0f} MiB/s, {:.0f} s left", label_, mib, total_mib, rate, left);
    return;
  }
  constexpr int kWidth = 30;
  const int filled = total_bytes == 0 ? kWidth : static_cast<int>(done_bytes * kWidth / total_bytes);
  std::string bar(static_cast<size_t>(filled), '#');
  bar.resize(kWidth, '.');
  std::fprintf(stderr, "\r%s [%s] %.0f/%.0f MiB %.0f MiB/s %.0f s left ", label_.c_str(), bar.c_str(), mib,
               total_mib, rate, left);
  line_open_ = true;
  if (done_) finish();
}

void Progress::finish() {
  if (line_open_) std::fputc('\n', stderr);
  line_open_ = false;
}

}  // namespace gantry::cli

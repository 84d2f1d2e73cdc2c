// Progress of long work: a bar on a terminal, lines in a log.
#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"

namespace gantry::cli {

// Thread-compatible: one thread updates it.
class Progress {
 public:
  enum class Unit : uint8_t { kBytes, kRequests };

  // label: "loading smollm2". Bytes are shown in MiB; beside either come the rate and the time left.
  // known: done before this process, so that it does not count as its rate.
  explicit Progress(std::string label, uint64_t known = 0, Unit unit = Unit::kBytes);
  // What comes after all is done is not shown.
  void update(uint64_t done, uint64_t total);
  // Ends the bar's line.
  void finish();

 private:
  std::string label_;
  double per_unit_;
  const char* unit_;
  bool terminal_;
  uint64_t known_;
  int64_t start_ns_;
  int64_t shown_ns_ = 0;
  bool line_open_ = false;
  bool done_ = false;
};

}  // namespace gantry::cli

// Progress of long work: a bar on a terminal, lines in a log.
#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"

namespace gantry::cli {

// Thread-compatible: one thread updates it.
class Progress {
 public:
  // label: "loading smollm2". Bytes are shown in MiB with rate and time left.
  // known_bytes: done before this process, so that they do not count as its rate.
  explicit Progress(std::string label, uint64_t known_bytes = 0);
  // What comes after all bytes are done is not shown.
  void update(uint64_t done_bytes, uint64_t total_bytes);
  // Ends the bar's line.
  void finish();

 private:
  std::string label_;
  bool terminal_;
  uint64_t known_bytes_;
  int64_t start_ns_;
  int64_t shown_ns_ = 0;
  bool line_open_ = false;
  bool done_ = false;
};

}  // namespace gantry::cli

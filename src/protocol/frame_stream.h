// Frames on a byte stream: a length of 4 bytes (little endian), then so many bytes of payload.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace gantry {

// CHECKs that the payload is at most kReplicaFrameBytesMax.
void append_frame(std::string_view payload, std::string& out);

// Cuts what was received into payloads.
class FrameSplitter {
 public:
  // Memory for the next bytes, at least 64 KiB; then received(n) says how many were put there.
  std::span<char> space();
  void received(size_t bytes);
  // The next payload, valid until space() is called; empty if it has not come whole. kDataLoss if a frame is longer
  // than kReplicaFrameBytesMax: the stream cannot be read on.
  Result<std::optional<std::string_view>> next();
  // Bytes of a frame that has not come whole.
  size_t pending() const { return end_ - begin_; }

 private:
  std::string buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace gantry

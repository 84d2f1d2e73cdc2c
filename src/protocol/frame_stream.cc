#include "protocol/frame_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "protocol/wire_limits.h"

namespace gantry {
namespace {

constexpr size_t kHeaderBytes = 4;
constexpr size_t kReadBytes = 64u << 10;
constexpr size_t kKeptBytes = 1u << 20;  // a larger buffer is given back once it is empty

}  // namespace

void append_frame(std::string_view payload, std::string& out) {
  GANTRY_CHECK(payload.size() <= limits::kReplicaFrameBytesMax) << payload.size() << " bytes in a frame";
  const auto size = static_cast<uint32_t>(payload.size());
  for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<char>((size >> shift) & 0xff));
  out.append(payload);
}

std::span<char> FrameSplitter::space() {
  if (begin_ == end_) {
    begin_ = end_ = 0;
    if (buffer_.size() > kKeptBytes) buffer_ = std::string();
  } else if (begin_ > buffer_.size() / 2) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= std::exchange(begin_, 0);
  }
  if (buffer_.size() - end_ < kReadBytes) buffer_.resize(std::max(2 * buffer_.size(), end_ + kReadBytes));
  return {buffer_.data() + end_, buffer_.size() - end_};
}

void FrameSplitter::received(size_t bytes) {
  GANTRY_CHECK(bytes <= buffer_.size() - end_);
  end_ += bytes;
}

Result<std::optional<std::string_view>> FrameSplitter::next() {
  const std::string_view bytes(buffer_.data() + begin_, end_ - begin_);
  if (bytes.size() < kHeaderBytes) return std::optional<std::string_view>();
  size_t size = 0;
  for (size_t i = 0; i < kHeaderBytes; ++i) size |= size_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  if (size > limits::kReplicaFrameBytesMax) {
    return data_loss(
        fmt::format("a frame of {} bytes, at most {} are allowed", size, limits::kReplicaFrameBytesMax));
  }
  if (bytes.size() - kHeaderBytes < size) return std::optional<std::string_view>();
  begin_ += kHeaderBytes + size;
  return std::optional(bytes.substr(kHeaderBytes, size));
}

}  // namespace gantry

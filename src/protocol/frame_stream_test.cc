#include "protocol/frame_stream.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "protocol/wire_limits.h"

namespace gantry {
namespace {

void feed(FrameSplitter& splitter, std::string_view bytes) {
  while (!bytes.empty()) {
    const std::span<char> space = splitter.space();
    const size_t n = std::min(space.size(), bytes.size());
    std::memcpy(space.data(), bytes.data(), n);
    splitter.received(n);
    bytes.remove_prefix(n);
  }
}

TEST(FrameStream, CutsWhatComesInAnyPieces) {
  std::mt19937_64 random(1);
  std::vector<std::string> sent;
  std::string stream;
  for (size_t i = 0; i < 200; ++i) {
    sent.emplace_back(i % 10 == 0 ? random() % 300'000 : random() % 300, static_cast<char>(i));
    append_frame(sent.back(), stream);
  }
  FrameSplitter splitter;
  size_t received = 0;
  for (std::string_view rest = stream; !rest.empty();) {
    const size_t piece = std::min<size_t>(rest.size(), 1 + random() % 100'000);
    feed(splitter, rest.substr(0, piece));
    rest.remove_prefix(piece);
    for (;;) {
      const auto payload = splitter.next();
      ASSERT_TRUE(payload.ok());
      if (!payload->has_value()) break;
      ASSERT_LT(received, sent.size());
      EXPECT_EQ(**payload, sent[received++]);
    }
  }
  EXPECT_EQ(received, sent.size());
  EXPECT_EQ(splitter.pending(), 0u);
}

TEST(FrameStream, RefusesALengthOverTheLimit) {
  FrameSplitter splitter;
  feed(splitter, std::string("\xff\xff\xff\xff", 4));
  const auto payload = splitter.next();
  EXPECT_EQ(payload.status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(payload.status().message(), "a frame of 4294967295 bytes, at most 134217728 are allowed");
}

TEST(FrameStream, AnEmptyPayloadIsAFrame) {
  FrameSplitter splitter;
  std::string stream;
  append_frame("", stream);
  feed(splitter, stream);
  const auto payload = splitter.next();
  ASSERT_TRUE(payload.ok());
  ASSERT_TRUE(payload->has_value());
  EXPECT_EQ(**payload, "");
}

}  // namespace
}  // namespace gantry

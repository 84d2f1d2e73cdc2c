#include "loadgen/sse_reader.h"

#include <gtest/gtest.h>

#include <vector>

namespace gantry::loadgen {
namespace {

TEST(SseReader, GivesTheSamePayloadsHoweverTheBytesAreCut) {
  const std::string text = ": ping\n\ndata: {\"a\":1}\r\n\r\nevent: x\ndata:two\n\ndata: [DONE]\n\n";
  for (size_t step = 1; step <= text.size(); ++step) {
    SseReader reader;
    std::vector<std::string> payloads;
    for (size_t i = 0; i < text.size(); i += step) {
      ASSERT_TRUE(reader.push(std::string_view(text).substr(i, step),
                              [&](std::string_view payload) { payloads.emplace_back(payload); }));
    }
    EXPECT_EQ(payloads, (std::vector<std::string>{"{\"a\":1}", "two", "[DONE]"})) << step;
  }
}

TEST(SseReader, ALineWithoutEndIsRefused) {
  SseReader reader;
  const std::string chunk(1 << 20, 'x');
  bool ok = true;
  for (int i = 0; i < 8 && ok; ++i) ok = reader.push(chunk, [](std::string_view) {});
  EXPECT_FALSE(ok);
}

}  // namespace
}  // namespace gantry::loadgen

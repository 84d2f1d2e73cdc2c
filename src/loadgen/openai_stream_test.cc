#include "loadgen/openai_stream.h"

#include <gtest/gtest.h>

namespace gantry::loadgen {
namespace {

// Each string arrives 10 ns after the one before it.
LoadRecord read(const std::vector<std::string>& pieces, int status = 200, const std::string& transport = {}) {
  OpenAiStream stream;
  LoadRecord record;
  int64_t now = 0;
  for (const std::string& piece : pieces) {
    if (!stream.push(piece, status, now += 10, record)) break;
  }
  stream.finish(transport, status, now + 10, record);
  return record;
}

std::string text(const std::string& t) { return R"(data: {"choices": [{"text": ")" + t + "\"}]}\n\n"; }
std::string delta(const std::string& fields) {
  return R"(data: {"choices": [{"delta": {)" + fields + "}}]}\n\n";
}
const std::string kUsage =
    "data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 7, \"completion_tokens\": 5, "
    "\"prompt_tokens_details\": {\"cached_tokens\": 4}}}\n\n";
const std::string kDone = "data: [DONE]\n\n";

TEST(OpenAiStream, TimesContentAndTakesUsage) {
  const LoadRecord r = read({text(""), text("a"), text("b"), text("c"), kUsage, kDone});
  EXPECT_EQ(r.outcome, Outcome::kCompleted) << r.error;
  EXPECT_EQ(r.first_ns, 20);
  EXPECT_EQ(r.last_ns, 40);
  EXPECT_EQ(r.end_ns, 70);
  EXPECT_EQ(r.gap_ns, (std::vector<int64_t>{10, 10}));
  EXPECT_EQ(r.prompt_tokens, 7);
  EXPECT_EQ(r.output_tokens, 5);
  EXPECT_EQ(r.cached_tokens, 4);
}

TEST(OpenAiStream, CountsPiecesWithoutUsage) {
  EXPECT_EQ(read({text("a"), text("b"), kDone}).output_tokens, 2);
}

TEST(OpenAiStream, ARoleIsNoContentButReasoningIs) {
  const LoadRecord r = read({delta(R"("role": "assistant", "content": "")"),
                             delta(R"("reasoning_content": "x")"), delta(R"("content": "y")"), kDone});
  EXPECT_EQ(r.first_ns, 20);
  EXPECT_EQ(r.gap_ns.size(), 1u);
}

TEST(OpenAiStream, EveryKindOfBadAnswerIsNamed) {
  EXPECT_EQ(read({text("a")}).error, "the stream ended before [DONE]");
  EXPECT_EQ(read({"data: nonsense\n\n"}).error, "the server sent an event that is no JSON object");
  EXPECT_EQ(read({text("a"), "data: {\"error\": {\"message\": \"boom\"}}\n\n"}).error, "boom");
  EXPECT_EQ(read({}, 0, "Couldn't connect to server").error, "Couldn't connect to server");
  EXPECT_EQ(read({"<html>"}, 500).error, "HTTP 500: <html>");
  EXPECT_EQ(read({std::string(8u << 20, 'x')}).error, "the server sent a line that does not end");
  for (const char* odd : {"{}", R"({"choices": 3})", R"({"choices": [4, {"delta": 5}, {"text": 6}]})",
                          R"({"usage": {"prompt_tokens": "x", "completion_tokens": -4}})"}) {
    const LoadRecord r = read({"data: " + std::string(odd) + "\n\n", kDone});
    EXPECT_EQ(r.outcome, Outcome::kCompleted) << odd;
    EXPECT_EQ(r.output_tokens, 0) << odd;
  }
}

TEST(OpenAiStream, RefusalsAreApart) {
  const LoadRecord r = read({R"({"error": {"message": "queue full"}})"}, 429);
  EXPECT_EQ(r.outcome, Outcome::kRefused);
  EXPECT_EQ(r.error, "queue full");
  EXPECT_EQ(read({"x"}, 503).outcome, Outcome::kRefused);
  EXPECT_EQ(read({"x"}, 400).outcome, Outcome::kFailed);
  EXPECT_EQ(read({text("a")}, 200, "the connection was reset").outcome, Outcome::kFailed);
}

}  // namespace
}  // namespace gantry::loadgen

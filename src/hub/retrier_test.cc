#include "hub/retrier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/clock.h"

namespace gantry::hub {
namespace {

Retrier::Try failure(bool progressed = false, std::optional<int64_t> retry_after_s = {}) {
  return {{unavailable("down"), true, retry_after_s}, progressed};
}

TEST(Retrier, GivesUpAfterSoManyFailuresInARow) {
  StopSignal stop;
  Retrier retrier(1, stop);
  int calls = 0;
  const Status status = retrier.run([&] { return ++calls, failure(); });
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_EQ(status.message(), "down (tried 2 times)");
}

TEST(Retrier, ProgressStartsTheCountAnew) {
  StopSignal stop;
  Retrier retrier(1, stop);
  int calls = 0;
  const Status status =
      retrier.run([&]() -> Retrier::Try { return ++calls < 5 ? failure(true) : Retrier::Try{}; });
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(calls, 5);
}

TEST(Retrier, DoesNotRepeatWhatFailsForGood) {
  StopSignal stop;
  Retrier retrier(5, stop);
  int calls = 0;
  const Status status = retrier.run([&] { return ++calls, Retrier::Try{{data_loss("wrong")}}; });
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(status.message(), "wrong");
}

// The second one to ask comes while the first waits for the pause that a server asked for.
TEST(Retrier, ARequestForAPauseHoldsForAll) {
  StopSignal stop;
  Retrier retrier(5, stop);
  const int64_t began = monotonic_ns();
  std::atomic<bool> asked{false};
  std::thread first([&] {
    int calls = 0;
    EXPECT_TRUE(retrier
                    .run([&]() -> Retrier::Try {
                      asked.store(true);
                      return ++calls > 1 ? Retrier::Try{} : failure(false, 1);
                    })
                    .ok());
  });
  // Until the pause is known, a call passes at once; from then on none does before it ends.
  while (!asked.load()) std::this_thread::yield();
  int64_t passed_ns = 0;
  for (int calls = 0; passed_ns < 1'000'000'000 && calls < 1'000'000'000; ++calls) {
    const int64_t before = monotonic_ns();
    EXPECT_TRUE(retrier.run([] { return Retrier::Try{}; }).ok());
    passed_ns = monotonic_ns() - began;
    if (monotonic_ns() - before > 500'000'000) break;  // it waited
  }
  EXPECT_GE(passed_ns, 1'000'000'000);
  first.join();
}

TEST(Retrier, AServerThatAsksForTooMuchIsLeftAlone) {
  StopSignal stop;
  Retrier retrier(5, stop);
  int calls = 0;
  const Status status = retrier.run([&] { return ++calls, failure(false, 100'000); });
  EXPECT_EQ(calls, 1);
  EXPECT_THAT(status.message(), testing::HasSubstr("100000 s"));
}

TEST(Retrier, AStopEndsTheWait) {
  StopSignal stop;
  Retrier retrier(5, stop);
  const int64_t began = monotonic_ns();
  const Status status = retrier.run([&] {
    stop.request();
    return failure(false, 500);
  });
  EXPECT_EQ(status.code(), StatusCode::kCancelled);
  EXPECT_LT(monotonic_ns() - began, 100'000'000'000);
}

TEST(RetryAfter, SecondsOrADate) {
  const auto head = [](std::string value) {
    return HttpHead{.status = 429, .headers = {{"retry-after", std::move(value)}}};
  };
  EXPECT_EQ(head("17").retry_after_s(), 17);
  EXPECT_EQ(head("-3").retry_after_s(), 0);
  EXPECT_EQ(head("Sun, 06 Nov 1994 08:49:37 GMT").retry_after_s(), 0);
  EXPECT_GT(head("Sun, 06 Nov 2094 08:49:37 GMT").retry_after_s(), 1'000'000);
  EXPECT_EQ(head("soon").retry_after_s(), std::nullopt);
  EXPECT_EQ(HttpHead{}.retry_after_s(), std::nullopt);
}

}  // namespace
}  // namespace gantry::hub

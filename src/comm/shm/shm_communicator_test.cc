#include "comm/shm/shm_communicator.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <thread>

namespace gantry {
namespace {

std::string message_of(const Status& status) { return status.ok() ? "" : status.message(); }

TEST(ShmCommunicator, WrongRanksAndForeignDescriptorsAreRefused) {
  EXPECT_EQ(shm::Segment::create(0).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(shm::Segment::create(shm::kRanksMax + 1).status().code(), StatusCode::kInvalidArgument);
  auto segment = shm::Segment::create(1);
  ASSERT_TRUE(segment.ok());
  const int fd = segment.value()->fd();
  EXPECT_EQ(open_shm_communicator(fd, 1, {}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(open_shm_communicator(fd, 0, {}).ok());
  const Status taken = open_shm_communicator(fd, 0, {}).status();
  EXPECT_NE(taken.message().find("rank 0 is taken"), std::string::npos) << taken.message();
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  EXPECT_EQ(open_shm_communicator(ends[0], 0, {}).status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(open_shm_communicator(-1, 0, {}).status().code(), StatusCode::kResourceExhausted);
  close(ends[0]);
  close(ends[1]);
}

// A rank that waits for others to come at all has no end that could be aborted.
TEST(ShmCommunicator, TheMakerEndsEveryWait) {
  const auto segment = shm::Segment::create(2).value();
  std::thread rank([&] {
    const Status status =
        open_shm_communicator(segment->fd(), 0, {.deadline = std::chrono::minutes(10)}).status();
    EXPECT_EQ(status.code(), StatusCode::kUnavailable);
    EXPECT_NE(message_of(status).find("rank 1 could not load"), std::string::npos) << message_of(status);
  });
  abort_group(*segment, "rank 1 could not load");
  rank.join();
}

}  // namespace
}  // namespace gantry

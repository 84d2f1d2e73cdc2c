#include "comm/shm/shm_communicator.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"

namespace gantry {
namespace {

using std::chrono::milliseconds;

// A rank's program: returns an empty string, or what went wrong.
using RankMain = std::function<std::string(Communicator&)>;

// A group of processes. A rank that fails prints why.
class Group {
 public:
  Group(int ranks, ShmOptions options, const RankMain& main) {
    auto segment = shm::Segment::create(ranks);
    EXPECT_TRUE(segment.ok()) << segment.status().message();
    for (int rank = 0; rank < ranks; ++rank) {
      const pid_t pid = fork();
      if (pid == 0) _exit(run(segment.value()->fd(), rank, options, main));
      pids_.push_back(pid);
    }
  }
  pid_t pid(int rank) const { return pids_[static_cast<size_t>(rank)]; }
  // Exit codes by rank; -1 for one that a signal ended.
  std::vector<int> wait() {
    std::vector<int> codes;
    for (const pid_t pid : pids_) {
      int state = 0;
      waitpid(pid, &state, 0);
      codes.push_back(WIFEXITED(state) ? WEXITSTATUS(state) : -1);
    }
    return codes;
  }

 private:
  static int run(int fd, int rank, const ShmOptions& options, const RankMain& main) {
    auto communicator = open_shm_communicator(fd, rank, options);
    const std::string error = communicator.ok() ? main(**communicator) : communicator.status().message();
    if (error.empty()) return 0;
    std::fprintf(stderr, "rank %d: %s\n", rank, error.c_str());
    return 1;
  }

  std::vector<pid_t> pids_;
};

std::string message_of(const Status& status) { return status.ok() ? "" : status.message(); }

std::span<const std::byte> bytes_of(const std::vector<float>& v) { return std::as_bytes(std::span(v)); }

// Values whose sum depends on the order of additions.
float value_of(int rank, size_t i) {
  const float magnitude[] = {1e-3f, 3e4f, 7.7f, -2.9e4f, 0.123f};
  return magnitude[(static_cast<size_t>(rank) + i) % 5] * static_cast<float>(1 + i % 7);
}

TEST(ShmCommunicator, TheSumIsTakenInRankOrderAtEverySize) {
  for (const int ranks : {1, 2, 3, 4}) {
    Group group(ranks, {.spin = std::chrono::microseconds(0)}, [&](Communicator& c) -> std::string {
      for (const size_t n : {0, 1, 576, 16'384, 16'385, 100'000}) {
        std::vector<float> values(n);
        for (size_t i = 0; i < n; ++i) values[i] = value_of(c.rank(), i);
        if (Status status = c.all_reduce_sum(values); !status.ok()) return status.message();
        for (size_t i = 0; i < n; ++i) {
          float sum = value_of(0, i);
          for (int rank = 1; rank < c.size(); ++rank) sum += value_of(rank, i);
          if (std::memcmp(&sum, &values[i], sizeof(float)) != 0)
            return "value " + std::to_string(i) + " differs";
        }
      }
      return "";
    });
    EXPECT_EQ(group.wait(), std::vector<int>(static_cast<size_t>(ranks), 0));
  }
}

TEST(ShmCommunicator, GatherAndBroadcastCarryEveryRanksBytes) {
  Group group(3, {}, [](Communicator& c) -> std::string {
    const size_t n = 20'000;  // more than one chunk
    std::vector<float> own(n), all(3 * n), shared(n, -1.0f);
    for (size_t i = 0; i < n; ++i) own[i] = value_of(c.rank(), i);
    if (Status s = c.all_gather(bytes_of(own), std::as_writable_bytes(std::span(all))); !s.ok())
      return s.message();
    for (int rank = 0; rank < 3; ++rank) {
      for (size_t i = 0; i < n; ++i) {
        if (all[static_cast<size_t>(rank) * n + i] != value_of(rank, i)) return "gathered value differs";
      }
    }
    if (c.rank() == 1) shared = own;
    if (Status s = c.broadcast(std::as_writable_bytes(std::span(shared)), 1); !s.ok()) return s.message();
    for (size_t i = 0; i < n; ++i) {
      if (shared[i] != value_of(1, i)) return "broadcast value differs";
    }
    return "";
  });
  EXPECT_EQ(group.wait(), (std::vector<int>{0, 0, 0}));
}

TEST(ShmCommunicator, ManySmallExchangesWithRanksOutOfStepStayInOrder) {
  Group group(4, {.spin = std::chrono::microseconds(0)}, [](Communicator& c) -> std::string {
    for (uint32_t round = 0; round < 1000; ++round) {
      if ((round + static_cast<uint32_t>(c.rank())) % 7 == 0) std::this_thread::yield();
      float value = static_cast<float>(round * 4 + static_cast<uint32_t>(c.rank()));
      if (Status s = c.all_reduce_sum({&value, 1}); !s.ok()) return s.message();
      if (value != static_cast<float>(16 * round + 6)) return "round " + std::to_string(round);
    }
    return "";
  });
  EXPECT_EQ(group.wait(), (std::vector<int>{0, 0, 0, 0}));
}

TEST(ShmCommunicator, AChainOfStagesPassesMessagesInOrder) {
  Group group(3, {}, [](Communicator& c) -> std::string {
    for (int message = 0; message < 200; ++message) {
      std::vector<int> data(static_cast<size_t>(1 + message * 331 % 40'000), message);
      if (c.rank() > 0) {
        std::fill(data.begin(), data.end(), -1);
        if (Status s = c.receive(std::as_writable_bytes(std::span(data)), c.rank() - 1); !s.ok())
          return s.message();
        for (const int value : data) {
          if (value != message + c.rank() - 1) return "message " + std::to_string(message);
        }
        for (int& value : data) ++value;
      }
      if (c.rank() + 1 == c.size()) continue;
      if (Status s = c.send(std::as_bytes(std::span(data)), c.rank() + 1); !s.ok()) return s.message();
    }
    return "";
  });
  EXPECT_EQ(group.wait(), (std::vector<int>{0, 0, 0}));
}

TEST(ShmCommunicator, AKilledRankIsNamedByAllOthers) {
  const int64_t start = monotonic_ns();
  Group group(3, {.deadline = milliseconds(60'000)}, [](Communicator& c) -> std::string {
    if (c.rank() == 1) raise(SIGKILL);
    const std::string error = message_of(c.barrier());
    return error.find("rank 1 has ended") != std::string::npos ? "" : "got: " + error;
  });
  EXPECT_EQ(group.wait(), (std::vector<int>{0, -1, 0}));
  EXPECT_LT(monotonic_ns() - start, 30'000'000'000);  // not by the deadline
}

TEST(ShmCommunicator, ARankThatDoesNotComeIsNamedAtTheDeadline) {
  Group group(2, {.deadline = milliseconds(200)}, [](Communicator& c) -> std::string {
    if (c.rank() == 1) raise(SIGSTOP);
    const Status status = c.barrier();
    if (c.rank() == 1) return status.code() == StatusCode::kUnavailable ? "" : "rank 1 was not fenced";
    if (status.code() != StatusCode::kDeadlineExceeded) return "got: " + message_of(status);
    return status.message() == "rank 1 did not come within 200 ms" ? "" : status.message();
  });
  int state = 0;
  ASSERT_EQ(waitpid(group.pid(0), &state, 0), group.pid(0));
  EXPECT_EQ(WEXITSTATUS(state), 0);
  kill(group.pid(1), SIGCONT);
  ASSERT_EQ(waitpid(group.pid(1), &state, 0), group.pid(1));
  EXPECT_EQ(WEXITSTATUS(state), 0);
}

TEST(ShmCommunicator, AbortEndsWaitingRanksWithTheReason) {
  // Many groups: a rank may look at any moment of an abort, and must never see it without its reason.
  for (int round = 0; round < 100; ++round) {
    Group group(3, {.deadline = milliseconds(60'000)}, [](Communicator& c) -> std::string {
      std::byte joined{};
      if (c.rank() != 2) {
        if (Status s = c.send({&joined, 1}, 2); !s.ok()) return s.message();
      } else {
        for (const int rank : {0, 1}) {
          if (Status s = c.receive({&joined, 1}, rank); !s.ok()) return s.message();
        }
        c.abort("weights of stage 1 are missing");
        c.abort("a later reason");
      }
      const std::string error = message_of(c.barrier());
      return error == "the group of ranks was aborted: weights of stage 1 are missing" ? "" : "got: " + error;
    });
    ASSERT_EQ(group.wait(), (std::vector<int>{0, 0, 0})) << "round " << round;
  }
}

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

// What every communicator promises, over each transport, between processes.
#include "comm/communicator.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "comm/shm/shm_communicator.h"
#include "comm/tcp/tcp_communicator.h"

namespace gantry {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLong{60'000};

// Called in the rank's process.
using Join = std::function<Result<std::unique_ptr<Communicator>>(int rank)>;

Join shm_group(int ranks, milliseconds deadline, std::chrono::microseconds spin) {
  const std::shared_ptr<shm::Segment> segment = shm::Segment::create(ranks).value();
  return [=](int rank) {
    return open_shm_communicator(segment->fd(), rank, {.deadline = deadline, .spin = spin});
  };
}

Join tcp_group(int ranks, milliseconds deadline) {
  const tcp::Secret secret = tcp::Secret::random();
  const auto members = std::make_shared<std::vector<std::unique_ptr<TcpCommunicator>>>();
  std::vector<tcp::Endpoint> endpoints;
  for (int rank = 0; rank < ranks; ++rank) {
    const TcpOptions options{.address = "127.0.0.1", .rank = rank, .size = ranks, .deadline = deadline};
    members->push_back(TcpCommunicator::listen(options, secret).value());
    endpoints.push_back({"127.0.0.1", members->back()->port()});
  }
  return [=](int rank) -> Result<std::unique_ptr<Communicator>> {
    std::unique_ptr<TcpCommunicator>& member = (*members)[static_cast<size_t>(rank)];
    GANTRY_RETURN_IF_ERROR(member->connect(endpoints));
    return std::unique_ptr<Communicator>(std::move(member));
  };
}

struct Transport {
  const char* name;
  Join (*make)(int ranks, milliseconds deadline);
};

const Transport kTransports[] = {
    {"shm", [](int ranks, milliseconds deadline) { return shm_group(ranks, deadline, ShmOptions{}.spin); }},
    {"shm_without_spinning",
     [](int ranks, milliseconds deadline) {
       return shm_group(ranks, deadline, std::chrono::microseconds(0));
     }},
    {"tcp", tcp_group},
};

// A rank's program: returns an empty string, or what went wrong.
using RankMain = std::function<std::string(Communicator&)>;

// A group of processes. A rank that fails prints why.
class Group {
 public:
  Group(int ranks, const Join& join, const RankMain& main) {
    for (int rank = 0; rank < ranks; ++rank) {
      const pid_t pid = fork();
      if (pid == 0) _exit(run(rank, join, main));
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
  static int run(int rank, const Join& join, const RankMain& main) {
    auto communicator = join(rank);
    const std::string error = communicator.ok() ? main(**communicator) : communicator.status().message();
    if (error.empty()) return 0;
    std::fprintf(stderr, "rank %d: %s\n", rank, error.c_str());
    return 1;
  }

  std::vector<pid_t> pids_;
};

class CommunicatorTest : public ::testing::TestWithParam<Transport> {
 protected:
  static Group group(int ranks, const RankMain& main, milliseconds deadline = kLong) {
    return {ranks, GetParam().make(ranks, deadline), main};
  }
};

std::string message_of(const Status& status) { return status.ok() ? "" : status.message(); }

std::span<const std::byte> bytes_of(const std::vector<float>& v) { return std::as_bytes(std::span(v)); }

// Values whose sum depends on the order of additions.
float value_of(int rank, size_t i) {
  const float magnitude[] = {1e-3f, 3e4f, 7.7f, -2.9e4f, 0.123f};
  return magnitude[(static_cast<size_t>(rank) + i) % 5] * static_cast<float>(1 + i % 7);
}

TEST_P(CommunicatorTest, TheSumIsTakenInRankOrderAtEverySize) {
  for (const int ranks : {1, 2, 3, 4}) {
    Group members = group(ranks, [](Communicator& c) -> std::string {
      for (const size_t n : {0, 1, 576, 16'384, 16'385, 100'000, 600'000}) {
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
    EXPECT_EQ(members.wait(), std::vector<int>(static_cast<size_t>(ranks), 0));
  }
}

TEST_P(CommunicatorTest, GatherAndBroadcastCarryEveryRanksBytes) {
  Group members = group(3, [](Communicator& c) -> std::string {
    const size_t n = 300'000;  // more than a chunk, and than sockets hold
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
  EXPECT_EQ(members.wait(), (std::vector<int>{0, 0, 0}));
}

TEST_P(CommunicatorTest, ManySmallExchangesWithRanksOutOfStepStayInOrder) {
  Group members = group(4, [](Communicator& c) -> std::string {
    for (uint32_t round = 0; round < 1000; ++round) {
      if ((round + static_cast<uint32_t>(c.rank())) % 7 == 0) std::this_thread::yield();
      float value = static_cast<float>(round * 4 + static_cast<uint32_t>(c.rank()));
      if (Status s = c.all_reduce_sum({&value, 1}); !s.ok()) return s.message();
      if (value != static_cast<float>(16 * round + 6)) return "round " + std::to_string(round);
    }
    return "";
  });
  EXPECT_EQ(members.wait(), (std::vector<int>{0, 0, 0, 0}));
}

TEST_P(CommunicatorTest, AChainOfStagesPassesMessagesInOrder) {
  Group members = group(3, [](Communicator& c) -> std::string {
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
  EXPECT_EQ(members.wait(), (std::vector<int>{0, 0, 0}));
}

TEST_P(CommunicatorTest, AKilledRankIsNamedByAllOthers) {
  const int64_t start = monotonic_ns();
  Group members = group(3, [](Communicator& c) -> std::string {
    if (c.rank() == 1) raise(SIGKILL);
    const std::string error = message_of(c.barrier());
    return error.find("rank 1 has ended") != std::string::npos ? "" : "got: " + error;
  });
  EXPECT_EQ(members.wait(), (std::vector<int>{0, -1, 0}));
  EXPECT_LT(monotonic_ns() - start, 30'000'000'000);  // not by the deadline
}

TEST_P(CommunicatorTest, ARankThatDoesNotComeIsNamedAtTheDeadline) {
  const auto main = [](Communicator& c) -> std::string {
    if (c.rank() == 1) raise(SIGSTOP);
    Status status = c.barrier();
    if (c.rank() == 1) {
      // Rank 0's part of the first barrier may have come before it gave up.
      if (status.ok()) status = c.barrier();
      return status.code() == StatusCode::kUnavailable ? "" : "rank 1 was not fenced";
    }
    if (status.code() != StatusCode::kDeadlineExceeded) return "got: " + message_of(status);
    return status.message() == "rank 1 did not come within 2000 ms" ? "" : status.message();
  };
  Group members = group(2, main, milliseconds(2000));
  int state = 0;
  ASSERT_EQ(waitpid(members.pid(0), &state, 0), members.pid(0));
  EXPECT_EQ(WEXITSTATUS(state), 0);
  kill(members.pid(1), SIGCONT);
  ASSERT_EQ(waitpid(members.pid(1), &state, 0), members.pid(1));
  EXPECT_EQ(WEXITSTATUS(state), 0);
}

TEST_P(CommunicatorTest, AbortEndsWaitingRanksWithTheReason) {
  // Many groups: a rank may look at any moment of an abort, and must never see it without its reason.
  for (int round = 0; round < 100; ++round) {
    Group members = group(3, [](Communicator& c) -> std::string {
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
    ASSERT_EQ(members.wait(), (std::vector<int>{0, 0, 0})) << "round " << round;
  }
}

INSTANTIATE_TEST_SUITE_P(Transports, CommunicatorTest, ::testing::ValuesIn(kTransports),
                         [](const auto& transport) { return std::string(transport.param.name); });

}  // namespace
}  // namespace gantry

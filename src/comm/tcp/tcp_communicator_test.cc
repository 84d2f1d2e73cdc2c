#include "comm/tcp/tcp_communicator.h"

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
using RankMain = std::function<std::string(TcpCommunicator&)>;

// A group of processes on the loopback interface. A rank that fails prints why.
class Group {
 public:
  Group(int ranks, milliseconds deadline, const RankMain& main) {
    const tcp::Secret secret = tcp::Secret::random();
    std::vector<std::unique_ptr<TcpCommunicator>> members;
    std::vector<tcp::Endpoint> endpoints;
    for (int rank = 0; rank < ranks; ++rank) {
      members.push_back(
          TcpCommunicator::listen({.address = "127.0.0.1", .rank = rank, .size = ranks, .deadline = deadline},
                                  secret)
              .value());
      endpoints.push_back({"127.0.0.1", members.back()->port()});
    }
    for (int rank = 0; rank < ranks; ++rank) {
      const pid_t pid = fork();
      if (pid == 0) _exit(run(*members[static_cast<size_t>(rank)], endpoints, main));
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
  static int run(TcpCommunicator& member, const std::vector<tcp::Endpoint>& endpoints, const RankMain& main) {
    const Status joined = member.connect(endpoints);
    const std::string error = joined.ok() ? main(member) : joined.message();
    if (error.empty()) return 0;
    std::fprintf(stderr, "rank %d: %s\n", member.rank(), error.c_str());
    return 1;
  }

  std::vector<pid_t> pids_;
};

constexpr milliseconds kLong{60'000};

std::string message_of(const Status& status) { return status.ok() ? "" : status.message(); }

// Values whose sum depends on the order of additions.
float value_of(int rank, size_t i) {
  const float magnitude[] = {1e-3f, 3e4f, 7.7f, -2.9e4f, 0.123f};
  return magnitude[(static_cast<size_t>(rank) + i) % 5] * static_cast<float>(1 + i % 7);
}

TEST(TcpCommunicator, TheSumIsTakenInRankOrderAtEverySize) {
  for (const int ranks : {1, 2, 3, 4}) {
    Group group(ranks, kLong, [](TcpCommunicator& c) -> std::string {
      for (const size_t n : {0, 1, 576, 16'384, 16'385, 600'000}) {
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

TEST(TcpCommunicator, GatherAndBroadcastCarryEveryRanksBytes) {
  Group group(3, kLong, [](TcpCommunicator& c) -> std::string {
    const size_t n = 300'000;  // more than sockets hold
    std::vector<float> own(n), all(3 * n), shared(n, -1.0f);
    for (size_t i = 0; i < n; ++i) own[i] = value_of(c.rank(), i);
    if (Status s = c.all_gather(std::as_bytes(std::span(own)), std::as_writable_bytes(std::span(all)));
        !s.ok())
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

TEST(TcpCommunicator, AChainOfStagesPassesMessagesInOrder) {
  Group group(3, kLong, [](TcpCommunicator& c) -> std::string {
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

TEST(TcpCommunicator, AKilledRankIsNamedByAllOthers) {
  const int64_t start = monotonic_ns();
  Group group(3, kLong, [](TcpCommunicator& c) -> std::string {
    if (c.rank() == 1) raise(SIGKILL);
    const std::string error = message_of(c.barrier());
    return error.find("rank 1 has ended") != std::string::npos ? "" : "got: " + error;
  });
  EXPECT_EQ(group.wait(), (std::vector<int>{0, -1, 0}));
  EXPECT_LT(monotonic_ns() - start, 30'000'000'000);  // not by the deadline
}

TEST(TcpCommunicator, ARankThatDoesNotComeIsNamedAtTheDeadline) {
  Group group(2, milliseconds(2000), [](TcpCommunicator& c) -> std::string {
    if (c.rank() == 1) raise(SIGSTOP);
    Status status = c.barrier();
    if (c.rank() == 1) {
      // Rank 0's part of the first barrier had come before it gave up.
      if (status.ok()) status = c.barrier();
      return status.code() == StatusCode::kUnavailable ? "" : "rank 1 was not fenced";
    }
    if (status.code() != StatusCode::kDeadlineExceeded) return "got: " + message_of(status);
    return status.message() == "rank 1 did not come within 2000 ms" ? "" : status.message();
  });
  int state = 0;
  ASSERT_EQ(waitpid(group.pid(0), &state, 0), group.pid(0));
  EXPECT_EQ(WEXITSTATUS(state), 0);
  kill(group.pid(1), SIGCONT);
  ASSERT_EQ(waitpid(group.pid(1), &state, 0), group.pid(1));
  EXPECT_EQ(WEXITSTATUS(state), 0);
}

TEST(TcpCommunicator, AbortEndsWaitingRanksWithTheReason) {
  for (int round = 0; round < 20; ++round) {
    Group group(3, kLong, [](TcpCommunicator& c) -> std::string {
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

TEST(TcpCommunicator, AbortEndsTheWaitForRanksThatNeverCome) {
  auto first = TcpCommunicator::listen(
                   {.address = "127.0.0.1", .rank = 0, .size = 2, .deadline = std::chrono::minutes(10)},
                   tcp::Secret::random())
                   .value();
  std::thread rank([&] {
    const Status status = first->connect({{"127.0.0.1", first->port()}, {"127.0.0.1", 1}});
    EXPECT_NE(message_of(status).find("rank 1 could not load"), std::string::npos) << message_of(status);
  });
  first->abort("rank 1 could not load");
  rank.join();
}

TEST(TcpCommunicator, AStrangerIsNoMember) {
  const tcp::Secret secret = tcp::Secret::random();
  const auto listen = [&](int rank) {
    return TcpCommunicator::listen({.address = "127.0.0.1", .rank = rank, .size = 2, .deadline = kLong},
                                   secret)
        .value();
  };
  auto first = listen(0), second = listen(1);
  const std::vector<tcp::Endpoint> ranks{{"127.0.0.1", first->port()}, {"127.0.0.1", second->port()}};
  std::thread member([&] { EXPECT_EQ(message_of(first->connect(ranks)), ""); });
  using tcp::Purpose;
  const auto try_with = [&](const tcp::Secret& key, const tcp::Hello& hello) {
    return tcp::connect_securely(ranks[0], key, hello, kLong).status();
  };
  const Status stranger =
      try_with(tcp::Secret::random(), {.purpose = Purpose::kAllGroup, .from = 1, .to = 0});
  EXPECT_NE(stranger.message().find("another secret"), std::string::npos) << stranger.message();
  EXPECT_FALSE(try_with(secret, {.purpose = Purpose::kTensorGroup, .from = 1, .to = 0}).ok());
  EXPECT_FALSE(try_with(secret, {.purpose = Purpose::kAllGroup, .from = 1, .to = 1}).ok());
  EXPECT_EQ(message_of(second->connect(ranks)), "");
  member.join();
}

}  // namespace
}  // namespace gantry

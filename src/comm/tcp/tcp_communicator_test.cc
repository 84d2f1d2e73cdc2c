#include "comm/tcp/tcp_communicator.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

namespace gantry {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLong{60'000};

std::string message_of(const Status& status) { return status.ok() ? "" : status.message(); }

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

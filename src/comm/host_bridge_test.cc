#include "comm/host_bridge.h"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <vector>

#include "comm/shm/shm_communicator.h"
#include "comm/tcp/tcp_communicator.h"

namespace gantry {
namespace {

// Four ranks as threads, two to a "host".
TEST(HostBridge, RanksOfTwoHostsExchangeAsThoseOfOneDo) {
  constexpr int kRanks = 4;
  const tcp::Secret secret = tcp::Secret::random();
  std::unique_ptr<shm::Segment> segments[] = {shm::Segment::create(2).value(),
                                              shm::Segment::create(2).value()};
  std::vector<std::unique_ptr<TcpCommunicator>> far;
  for (int rank = 0; rank < kRanks; ++rank) {
    far.push_back(
        TcpCommunicator::listen({.address = "127.0.0.1", .rank = rank, .size = kRanks}, secret).value());
  }
  std::vector<tcp::Endpoint> all_endpoints;
  for (const auto& one : far) all_endpoints.push_back({"127.0.0.1", one->port()});
  const auto run = [&](int rank) {
    std::vector<tcp::Endpoint> endpoints = all_endpoints;
    for (int other = 0; other < kRanks; ++other) {
      if (other / 2 == rank / 2) endpoints[static_cast<size_t>(other)].host.clear();
    }
    auto own = std::move(far[static_cast<size_t>(rank)]);
    EXPECT_TRUE(own->connect(endpoints).ok());
    const int first = rank / 2 * 2;
    const auto near =
        open_shm_communicator(segments[rank / 2]->fd(), rank % 2, {.first_rank = first}).value();
    const auto all = bridge_hosts({.near = near.get(), .near_first = first, .far = own.get()});
    EXPECT_EQ(all->rank(), rank);
    EXPECT_EQ(all->size(), kRanks);
    // From stage to stage, over the host's border between 1 and 2.
    std::vector<int> rows(50'000, rank == 0 ? 7 : -1);
    if (rank > 0) {
      EXPECT_TRUE(all->receive(std::as_writable_bytes(std::span(rows)), rank - 1).ok());
    }
    if (rank + 1 < kRanks) {
      EXPECT_TRUE(all->send(std::as_bytes(std::span(rows)), rank + 1).ok());
    }
    EXPECT_EQ(rows, std::vector<int>(50'000, 7));
    // The order of additions shows: 1e8 swallows a 1 that comes after it.
    const float parts[] = {1.0f, 1e8f, -1e8f, 3.0f};
    float values[] = {parts[rank], static_cast<float>(rank)};
    EXPECT_TRUE(all->all_reduce_sum(values).ok());
    EXPECT_EQ(values[0], ((parts[0] + parts[1]) + parts[2]) + parts[3]);
    EXPECT_EQ(values[1], 6.0f);
    std::byte word{static_cast<unsigned char>(rank)};
    EXPECT_TRUE(all->broadcast({&word, 1}, 2).ok());
    EXPECT_EQ(word, std::byte{2});
    EXPECT_TRUE(all->barrier().ok());
  };
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < kRanks; ++rank) ranks.emplace_back(run, rank);
  for (std::thread& rank : ranks) rank.join();
}

}  // namespace
}  // namespace gantry

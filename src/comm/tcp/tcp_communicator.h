// Ranks on several hosts, or on one without shared memory: a connection between each two of them. An all-reduce has the
// bits of shm's: every rank gets all parts and adds them in rank order. A call whose data has come from all peers is good
// although one of them has given up since; the call after it is not.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/tcp/acceptor.h"

namespace gantry {

struct TcpOptions {
  std::string address;  // to listen on, and of nothing else
  tcp::Purpose purpose = tcp::Purpose::kAllGroup;
  int rank = 0;
  int size = 1;
  // The longest wait for a peer within a call, and for all to come in connect(); one that has ended is named at once.
  std::chrono::milliseconds deadline{30'000};
  // What the group's rank 0 is called in messages; the others follow.
  int first_rank = 0;
};

class TcpCommunicator final : public Communicator {
 public:
  // Listens: peers may connect from now on. The secret is of this group alone: who has another, or another purpose, is
  // no member.
  static Result<std::unique_ptr<TcpCommunicator>> listen(const TcpOptions& options,
                                                         const tcp::Secret& secret);
  ~TcpCommunicator() override;

  uint16_t port() const { return acceptor_->endpoint().port; }
  // Connects to every rank, each with what it listens on, but to those whose host is empty: such a pair exchanges
  // nothing. Waits until all have come; collective. Every other call but abort() comes after it.
  Status connect(const std::vector<tcp::Endpoint>& ranks);

  int rank() const override { return options_.rank; }
  int size() const override { return options_.size; }
  Status all_gather(std::span<const std::byte> in, std::span<std::byte> out) override;
  Status all_reduce_sum(std::span<float> values) override;
  Status broadcast(std::span<std::byte> data, int root) override;
  Status barrier() override;
  Status send(std::span<const std::byte> data, int to) override;
  Status receive(std::span<std::byte> data, int from) override;
  void abort(std::string_view reason) override;

  // Data of all records sent and received so far. Of the thread that makes the calls.
  uint64_t sent_bytes() const { return sent_bytes_; }

 private:
  // What a call still has to do with a peer. An empty record goes, and comes, where a barrier asks for one.
  struct Peer {
    std::optional<tcp::SecureSocket> socket;
    std::span<const std::byte> out;
    std::span<std::byte> in;
    bool sends = false;
    bool receives = false;

    bool busy() const { return sends || receives || (socket && socket->unsent() > 0); }
  };

  TcpCommunicator(const TcpOptions& options, std::unique_ptr<tcp::Acceptor> acceptor,
                  const tcp::Secret& secret, int wake);
  Status join(const std::vector<tcp::Endpoint>& ranks);
  Status accept_from(int count, int64_t end_ns);
  void give(int peer, std::span<const std::byte> data);
  void expect(int peer, std::span<std::byte> data);
  // All of give() and expect(), then an error for all members where there is one.
  Status run();
  // As far as it goes without waiting. True when nothing is left.
  Result<bool> progress();
  Status write_to(int rank);
  Status read_from(int rank);
  Status wait(int64_t end_ns);
  // Of this rank or of another, the first time: for abort_status().
  void set_reason(std::string_view reason);
  // The result of a call, told to the peers if it is an error.
  Status leave(Status status);
  void tell_abort();
  Status abort_status() const;
  Peer& peer(int rank) { return peers_[static_cast<size_t>(rank)]; }
  std::string name(int rank) const { return std::to_string(options_.first_rank + rank); }

  const TcpOptions options_;
  const std::unique_ptr<tcp::Acceptor> acceptor_;
  const tcp::Secret secret_;
  const int wake_;  // eventfd, for abort()
  std::vector<Peer> peers_;
  std::vector<float> parts_;  // of an all-reduce, [size, window]
  uint64_t sent_bytes_ = 0;

  std::mutex call_mutex_;  // held during a call, and to tell peers of an abort
  mutable std::mutex reason_mutex_;
  std::string reason_;
  std::atomic<bool> aborted_{false};
  std::atomic<bool> told_{false};
};

}  // namespace gantry

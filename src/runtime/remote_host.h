// Ranks of another host: its agent starts them, watches them, and passes on what is said.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "comm/tcp/acceptor.h"
#include "runtime/host_messages.h"
#include "runtime/rank_host.h"

namespace gantry {

class RemoteHost final : public RankHost {
 public:
  // number: 1 for the first beside rank 0's.
  RemoteHost(int32_t number, tcp::Admitted agent);
  ~RemoteHost() override;

  // "host 1 (b, 10.0.0.2)".
  std::string name() const;

  Status start(const RankSetup& setup) override;
  Status send(int32_t rank, RankMessage message, std::string_view payload) override;
  bool try_send(int32_t rank, RankMessage message) override;
  std::string place(int32_t rank) const override;
  std::string address() const override { return peer_.host; }
  bool is_stopped(int32_t rank) const override;
  void watch(std::vector<pollfd>& looks) const override;
  Status take(std::span<const pollfd> looks, RankEvents& events) override;
  Status tick() override;
  void abort(std::string_view reason) override;
  void end(bool at_once) override;

 private:
  Status take_message(const HostLink::Received& received, RankEvents& events);
  Status foreign_rank(int32_t rank) const;

  const int32_t number_;
  const tcp::Endpoint peer_;
  HostLink link_;
  int silent_ticks_ = 0;
  std::vector<int32_t> stopped_;  // ranks, as of the last pong

  mutable std::mutex mutex_;         // of what follows
  std::string host_name_;            // once the agent has said it
  std::map<int32_t, int64_t> pids_;  // of the ranks; 0 while they start
};

}  // namespace gantry

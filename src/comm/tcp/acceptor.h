// Listens for peers that know the secret. Others cost a slot for kHandshakeMax at most, and get nothing.
#pragma once

#include <poll.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "comm/tcp/secure_socket.h"

namespace gantry::tcp {

struct Admitted {
  SecureSocket socket;
  Hello hello;
  Endpoint peer;
};

class Acceptor {
 public:
  struct Options {
    Endpoint at;  // port 0: a free one
    Purpose purpose = Purpose::kAgent;
    uint32_t self = 0;  // what a hello's `to` must be
  };
  static Result<std::unique_ptr<Acceptor>> listen(const Options& options, const Secret& secret);

  Endpoint endpoint() const { return local_endpoint(listener_.get()); }
  void watch(std::vector<pollfd>& looks) const;
  // `looks` as watch() added them, after poll(). Appends those who have proven themselves; logs those who could not.
  // Call it at least every second.
  void take(std::span<const pollfd> looks, std::vector<Admitted>& admitted);

 private:
  struct Pending {
    Fd fd;
    std::unique_ptr<ServerHandshake> handshake;
    std::string received;
    bool replied = false;
    int64_t end_ns = 0;
  };

  Acceptor(Fd listener, const Options& options, const Secret& secret);
  void accept_all();
  // What has come. False: it is over, with why where it failed.
  bool advance(Pending& pending, std::vector<Admitted>& admitted);
  void refuse(const Pending& pending, const std::string& why);

  const Options options_;
  const Secret secret_;
  Fd listener_;
  std::vector<Pending> pending_;  // oldest first
  int64_t logged_ns_ = 0;
  uint64_t refused_ = 0;  // since then
};

}  // namespace gantry::tcp

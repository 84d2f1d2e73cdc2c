// Addresses of hosts, and plain TCP sockets to and from them.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "base/status.h"

namespace gantry::tcp {

struct Endpoint {
  std::string host;  // a name or a numeric address of IPv4 or IPv6
  uint16_t port = 0;

  std::string text() const;  // "10.0.0.1:29500", "[fd00::1]:29500"
};

// A descriptor that is closed when it goes.
class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  ~Fd();
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept;
  int get() const { return fd_; }
  int release();

 private:
  int fd_;
};

// Sockets are non-blocking, close-on-exec and without delay (TCP_NODELAY).
//
// Listens on this address and no other; port 0 takes a free one. kInvalidArgument for an address that means every
// interface, kUnavailable says what failed.
Result<Fd> listen_on(const Endpoint& at);
// Waits for the connection at most that long. kUnavailable: refused, unreachable or too late.
Result<Fd> connect_to(const Endpoint& to, std::chrono::milliseconds limit);
// Numeric, of this end and of the other.
Endpoint local_endpoint(int fd);
Endpoint peer_endpoint(int fd);

}  // namespace gantry::tcp

#include "comm/tcp/endpoint.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

namespace gantry::tcp {
namespace {

constexpr int kBacklog = 128;

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

Result<Addresses> resolve(const Endpoint& endpoint, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int error = getaddrinfo(endpoint.host.c_str(), std::to_string(endpoint.port).c_str(), &hints, &list);
  if (error != 0) {
    return unavailable(fmt::format("{} has no address: {}", endpoint.host,
                                   error == EAI_SYSTEM ? std::strerror(errno) : gai_strerror(error)));
  }
  return Addresses(list);
}

Status failed(std::string_view what, const Endpoint& endpoint, int error) {
  return unavailable(fmt::format("{} {}: {}", what, endpoint.text(), std::strerror(error)));
}

void without_delay(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

bool is_any(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    return reinterpret_cast<const sockaddr_in&>(address).sin_addr.s_addr == htonl(INADDR_ANY);
  }
  return IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6&>(address).sin6_addr);
}

Endpoint named(int (*get)(int, sockaddr*, socklen_t*), int fd) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  auto* address = reinterpret_cast<sockaddr*>(&storage);
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  if (get(fd, address, &size) != 0 || getnameinfo(address, size, host.data(), host.size(), port.data(),
                                                  port.size(), NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return {};
  }
  return {host.data(), static_cast<uint16_t>(std::atoi(port.data()))};
}

Status finish_connect(int fd, const Endpoint& to, std::chrono::milliseconds limit) {
  pollfd look{.fd = fd, .events = POLLOUT, .revents = 0};
  if (poll(&look, 1, static_cast<int>(limit.count())) != 1) {
    return unavailable(fmt::format("connecting to {}: no answer within {} ms", to.text(), limit.count()));
  }
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return error == 0 ? Status() : failed("connecting to", to, error);
}

}  // namespace

std::string Endpoint::text() const {
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                             : fmt::format("[{}]:{}", host, port);
}

Fd::~Fd() {
  if (fd_ >= 0) close(fd_);
}

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) close(fd_);
    fd_ = other.release();
  }
  return *this;
}

int Fd::release() { return std::exchange(fd_, -1); }

Result<Fd> listen_on(const Endpoint& at) {
  GANTRY_ASSIGN_OR_RETURN(const Addresses addresses, resolve(at, AI_PASSIVE));
  if (is_any(*addresses->ai_addr)) {
    return invalid_argument(
        fmt::format("{} means every interface: name the address of one that is private", at.host));
  }
  Fd fd(socket(addresses->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd.get() < 0) return failed("listening on", at, errno);
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd.get(), addresses->ai_addr, addresses->ai_addrlen) != 0 || listen(fd.get(), kBacklog) != 0) {
    return failed("listening on", at, errno);
  }
  return fd;
}

Result<Fd> connect_to(const Endpoint& to, std::chrono::milliseconds limit) {
  GANTRY_ASSIGN_OR_RETURN(const Addresses addresses, resolve(to, 0));
  Status last = failed("connecting to", to, EADDRNOTAVAIL);
  for (const addrinfo* address = addresses.get(); address != nullptr; address = address->ai_next) {
    Fd fd(socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (fd.get() < 0) {
      last = failed("connecting to", to, errno);
      continue;
    }
    without_delay(fd.get());
    if (connect(fd.get(), address->ai_addr, address->ai_addrlen) != 0 && errno != EINPROGRESS) {
      last = failed("connecting to", to, errno);
      continue;
    }
    last = finish_connect(fd.get(), to, limit);
    if (last.ok()) return fd;
  }
  return last;
}

Endpoint local_endpoint(int fd) { return named(getsockname, fd); }
Endpoint peer_endpoint(int fd) { return named(getpeername, fd); }

}  // namespace gantry::tcp

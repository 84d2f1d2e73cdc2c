#include "comm/tcp/secure_socket.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/clock.h"

namespace gantry::tcp {
namespace {

Status gone(int error) {
  return unavailable(
      fmt::format("the connection ended: {}", error == 0 ? "closed by the other end" : std::strerror(error)));
}

// Blocking send and receive of a handshake's messages, until the deadline.
class Exchange {
 public:
  Exchange(int fd, int64_t end_ns) : fd_(fd), end_ns_(end_ns) {}

  Status send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent < 0) {
        GANTRY_RETURN_IF_ERROR(wait(POLLOUT));
        continue;
      }
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return {};
  }
  Result<std::string> receive(size_t count) {
    std::string bytes(count, '\0');
    for (size_t have = 0; have < count;) {
      const ssize_t got = recv(fd_, bytes.data() + have, count - have, 0);
      if (got == 0) return gone(0);
      if (got < 0) {
        GANTRY_RETURN_IF_ERROR(wait(POLLIN));
        continue;
      }
      have += static_cast<size_t>(got);
    }
    return bytes;
  }

 private:
  Status wait(short events) {
    if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) return gone(errno);
    const int64_t left_ms = (end_ns_ - monotonic_ns()) / 1'000'000;
    pollfd look{.fd = fd_, .events = events, .revents = 0};
    if (left_ms <= 0 || poll(&look, 1, static_cast<int>(left_ms)) == 0) {
      return unavailable("the other end does not answer");
    }
    return {};
  }

  int fd_;
  int64_t end_ns_;
};

}  // namespace

SecureSocket::SecureSocket(Fd fd, Side side, const SessionKeys& keys)
    : fd_(std::move(fd)),
      sealer_(side == Side::kClient ? keys.to_server : keys.to_client),
      opener_(side == Side::kClient ? keys.to_client : keys.to_server) {}

Status SecureSocket::send(RecordKind kind, std::span<const std::byte> data) {
  do {
    const auto part = data.first(std::min(data.size(), limits::kRecordBytesMax));
    sealer_.seal(kind, part, out_);
    data = data.subspan(part.size());
  } while (!data.empty());
  return flush();
}

Status SecureSocket::flush() {
  while (sent_ < out_.size()) {
    const ssize_t sent =
        ::send(fd_.get(), out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return {};
    if (sent < 0) return gone(errno);
    sent_ += static_cast<size_t>(sent);
  }
  out_.clear();
  sent_ = 0;
  return {};
}

SecureSocket::Got SecureSocket::receive() {
  for (;;) {
    const std::span<char> space = opener_.space();
    if (space.empty()) return Got::kBytes;  // whole records are still to be taken
    const ssize_t got = recv(fd_.get(), space.data(), space.size(), MSG_DONTWAIT);
    if (got > 0) {
      opener_.received(static_cast<size_t>(got));
      return Got::kBytes;
    }
    if (got < 0 && errno == EINTR) continue;
    return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? Got::kNothing : Got::kEnd;
  }
}

Result<SecureSocket> connect_securely(const Endpoint& to, const Secret& secret, const Hello& hello,
                                      std::chrono::milliseconds limit) {
  const int64_t end_ns = monotonic_ns() + std::chrono::nanoseconds(limit).count();
  GANTRY_ASSIGN_OR_RETURN(Fd fd, connect_to(to, limit));
  Exchange exchange(fd.get(), end_ns);
  ClientHandshake handshake(secret, hello);
  const auto talk = [&]() -> Status {
    GANTRY_RETURN_IF_ERROR(exchange.send(handshake.hello()));
    GANTRY_ASSIGN_OR_RETURN(const std::string reply, exchange.receive(kReplyBytes));
    GANTRY_ASSIGN_OR_RETURN(const std::string proof, handshake.answer(reply));
    return exchange.send(proof);
  };
  if (const Status status = talk(); !status.ok()) return status.with_context(to.text());
  return SecureSocket(std::move(fd), SecureSocket::Side::kClient, handshake.keys());
}

}  // namespace gantry::tcp

#include "comm/tcp/acceptor.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "base/clock.h"
#include "base/log.h"

namespace gantry::tcp {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;

}  // namespace

Acceptor::Acceptor(Fd listener, const Options& options, const Secret& secret)
    : options_(options), secret_(secret), listener_(std::move(listener)) {}

Result<std::unique_ptr<Acceptor>> Acceptor::listen(const Options& options, const Secret& secret) {
  GANTRY_ASSIGN_OR_RETURN(Fd listener, listen_on(options.at));
  return std::unique_ptr<Acceptor>(new Acceptor(std::move(listener), options, secret));
}

void Acceptor::watch(std::vector<pollfd>& looks) const {
  looks.push_back({.fd = listener_.get(), .events = POLLIN, .revents = 0});
  for (const Pending& pending : pending_)
    looks.push_back({.fd = pending.fd.get(), .events = POLLIN, .revents = 0});
}

void Acceptor::take(std::span<const pollfd> looks, std::vector<Admitted>& admitted) {
  const int64_t now = monotonic_ns();
  std::vector<Pending> kept;
  for (size_t i = 0; i < pending_.size(); ++i) {
    Pending& pending = pending_[i];
    if (looks[1 + i].revents != 0 && !advance(pending, admitted)) continue;
    if (now >= pending.end_ns) {
      refuse(pending, "it did not say who it is in time");
      continue;
    }
    kept.push_back(std::move(pending));
  }
  pending_ = std::move(kept);
  if (looks[0].revents != 0) accept_all();
}

void Acceptor::accept_all() {
  for (size_t i = 0; i < limits::kHandshakesMax; ++i) {
    Fd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd.get() < 0) return;
    const int on = 1;
    setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (pending_.size() == limits::kHandshakesMax) {
      refuse(pending_.front(), "others came before it said who it is");
      pending_.erase(pending_.begin());
    }
    pending_.push_back({.fd = std::move(fd),
                        .handshake = std::make_unique<ServerHandshake>(secret_),
                        .received = {},
                        .end_ns = monotonic_ns() + std::chrono::nanoseconds(limits::kHandshakeMax).count()});
  }
}

bool Acceptor::advance(Pending& pending, std::vector<Admitted>& admitted) {
  for (;;) {
    const size_t due = pending.replied ? kProofBytes : kHelloBytes;
    const size_t have = pending.received.size();
    pending.received.resize(due);
    // No more than this message: what follows belongs to the records.
    const ssize_t got = recv(pending.fd.get(), pending.received.data() + have, due - have, MSG_DONTWAIT);
    pending.received.resize(have + static_cast<size_t>(std::max<ssize_t>(got, 0)));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return true;
    if (got <= 0) return false;  // it went away
    if (pending.received.size() < due) continue;
    if (!pending.replied) {
      const auto reply = pending.handshake->reply(pending.received);
      if (!reply.ok()) return refuse(pending, reply.status().message()), false;
      const Hello& hello = pending.handshake->hello();
      if (hello.purpose != options_.purpose || hello.to != options_.self) {
        return refuse(pending, "it wants another process than this one"), false;
      }
      // A new socket has room for as little.
      if (send(pending.fd.get(), reply->data(), reply->size(), MSG_NOSIGNAL | MSG_DONTWAIT) !=
          static_cast<ssize_t>(reply->size())) {
        return false;
      }
      pending.replied = true;
      pending.received.clear();
      continue;
    }
    if (const Status status = pending.handshake->finish(pending.received); !status.ok()) {
      return refuse(pending, status.message()), false;
    }
    const Endpoint peer = peer_endpoint(pending.fd.get());
    admitted.push_back({.socket = SecureSocket(std::move(pending.fd), SecureSocket::Side::kServer,
                                               pending.handshake->keys()),
                        .hello = pending.handshake->hello(),
                        .peer = peer});
    return false;
  }
}

// One line a second at most: anyone can connect.
void Acceptor::refuse(const Pending& pending, const std::string& why) {
  ++refused_;
  const int64_t now = monotonic_ns();
  if (logged_ns_ != 0 && now - logged_ns_ < kSecondNs) return;
  log::warn("a connection from {} to {} was refused: {}{}", peer_endpoint(pending.fd.get()).text(),
            endpoint().text(), why,
            refused_ > 1 ? " (" + std::to_string(refused_) + " since the last such line)" : "");
  logged_ns_ = now;
  refused_ = 0;
}

}  // namespace gantry::tcp

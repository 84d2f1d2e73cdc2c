#include "comm/tcp/tcp_communicator.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/clock.h"

namespace gantry {
namespace {

constexpr int kTickMs = 200;  // a look at handshakes that take too long
// Of an all-reduce in flight, per rank.
constexpr size_t kWindowFloats = (1u << 20) / sizeof(float);

int64_t end_of(std::chrono::milliseconds limit) {
  return monotonic_ns() + std::chrono::nanoseconds(limit).count();
}

}  // namespace

TcpCommunicator::TcpCommunicator(const TcpOptions& options, std::unique_ptr<tcp::Acceptor> acceptor,
                                 const tcp::Secret& secret, int wake)
    : options_(options), acceptor_(std::move(acceptor)), secret_(secret), wake_(wake) {
  peers_.resize(static_cast<size_t>(options.size));
}

TcpCommunicator::~TcpCommunicator() { close(wake_); }

Result<std::unique_ptr<TcpCommunicator>> TcpCommunicator::listen(const TcpOptions& options,
                                                                 const tcp::Secret& secret) {
  GANTRY_CHECK(options.rank >= 0 && options.rank < options.size);
  GANTRY_ASSIGN_OR_RETURN(auto acceptor, tcp::Acceptor::listen({.at = {options.address, 0},
                                                                .purpose = options.purpose,
                                                                .self = static_cast<uint32_t>(options.rank)},
                                                               secret));
  const int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake < 0) return resource_exhausted("no descriptor is left for a group of ranks");
  return std::unique_ptr<TcpCommunicator>(new TcpCommunicator(options, std::move(acceptor), secret, wake));
}

Status TcpCommunicator::connect(const std::vector<tcp::Endpoint>& ranks) {
  GANTRY_CHECK(static_cast<int>(ranks.size()) == size());
  {
    const std::lock_guard lock(call_mutex_);
    if (const Status status = join(ranks); !status.ok()) return leave(status);
  }
  for (int other = 0; other < size(); ++other) {
    if (!peer(other).socket) continue;
    give(other, {});
    expect(other, {});
  }
  return run();
}

// A rank connects to those before it and is connected to by those after it, so that no two wait for each other.
Status TcpCommunicator::join(const std::vector<tcp::Endpoint>& ranks) {
  const int64_t end_ns = end_of(options_.deadline);
  int later = 0;
  for (int other = 0; other < size(); ++other) {
    const tcp::Endpoint& at = ranks[static_cast<size_t>(other)];
    if (other == rank() || at.host.empty()) continue;
    if (other > rank()) {
      ++later;
      continue;
    }
    auto socket = tcp::connect_securely(at, secret_,
                                        {.purpose = options_.purpose,
                                         .from = static_cast<uint32_t>(rank()),
                                         .to = static_cast<uint32_t>(other)},
                                        options_.deadline);
    if (!socket.ok()) return socket.status().with_context("rank " + name(other));
    peer(other).socket.emplace(std::move(*socket));
  }
  return accept_from(later, end_ns);
}

Status TcpCommunicator::accept_from(int count, int64_t end_ns) {
  std::vector<pollfd> looks;
  std::vector<tcp::Admitted> admitted;
  while (count > 0) {
    if (aborted_) return abort_status();
    looks.assign(1, {.fd = wake_, .events = POLLIN, .revents = 0});
    acceptor_->watch(looks);
    poll(looks.data(), looks.size(), kTickMs);
    acceptor_->take(std::span(looks).subspan(1), admitted);
    for (tcp::Admitted& one : admitted) {
      const auto from = static_cast<int>(one.hello.from);
      if (one.hello.from >= peers_.size() || from <= rank() || peer(from).socket) {
        return data_loss(fmt::format("{} says that it is rank {}", one.peer.text(), one.hello.from));
      }
      peer(from).socket.emplace(std::move(one.socket));
      --count;
    }
    admitted.clear();
    if (count == 0 || monotonic_ns() < end_ns) continue;
    const auto missing =
        std::find_if(peers_.begin() + rank() + 1, peers_.end(), [](const Peer& p) { return !p.socket; });
    return Status(StatusCode::kDeadlineExceeded,
                  fmt::format("rank {} did not come within {} ms",
                              name(static_cast<int>(missing - peers_.begin())), options_.deadline.count()));
  }
  return {};
}

Status TcpCommunicator::all_gather(std::span<const std::byte> in, std::span<std::byte> out) {
  GANTRY_CHECK(out.size() == in.size() * peers_.size())
      << out.size() << " bytes for " << size() << " x " << in.size();
  if (in.empty()) return {};
  for (int other = 0; other < size(); ++other) {
    const std::span<std::byte> theirs = out.subspan(static_cast<size_t>(other) * in.size(), in.size());
    if (other == rank()) {
      std::memcpy(theirs.data(), in.data(), in.size());
    } else {
      give(other, in);
      expect(other, theirs);
    }
  }
  return run();
}

Status TcpCommunicator::all_reduce_sum(std::span<float> values) {
  for (size_t at = 0; at < values.size(); at += kWindowFloats) {
    const std::span<float> part = values.subspan(at, std::min(kWindowFloats, values.size() - at));
    parts_.resize(std::max(parts_.size(), part.size() * peers_.size()));
    const std::span<float> all = std::span(parts_).first(part.size() * peers_.size());
    GANTRY_RETURN_IF_ERROR(all_gather(std::as_bytes(part), std::as_writable_bytes(all)));
    std::copy_n(all.begin(), part.size(), part.begin());
    for (size_t other = 1; other < peers_.size(); ++other) {
      const std::span<const float> theirs = all.subspan(other * part.size(), part.size());
      for (size_t i = 0; i < part.size(); ++i) part[i] += theirs[i];
    }
  }
  return {};
}

Status TcpCommunicator::broadcast(std::span<std::byte> data, int root) {
  GANTRY_CHECK(root >= 0 && root < size()) << "root " << root;
  if (data.empty() || size() == 1) return {};
  if (rank() != root) {
    expect(root, data);
    return run();
  }
  for (int other = 0; other < size(); ++other) {
    if (other != root) give(other, data);
  }
  return run();
}

Status TcpCommunicator::barrier() {
  for (int other = 0; other < size(); ++other) {
    if (other == rank()) continue;
    give(other, {});
    expect(other, {});
  }
  return run();
}

Status TcpCommunicator::send(std::span<const std::byte> data, int to) {
  GANTRY_CHECK(to >= 0 && to < size() && to != rank()) << "rank " << to;
  if (data.empty()) return {};
  give(to, data);
  return run();
}

Status TcpCommunicator::receive(std::span<std::byte> data, int from) {
  GANTRY_CHECK(from >= 0 && from < size() && from != rank()) << "rank " << from;
  if (data.empty()) return {};
  expect(from, data);
  return run();
}

void TcpCommunicator::give(int rank, std::span<const std::byte> data) {
  GANTRY_CHECK(peer(rank).socket || aborted_) << "no connection to rank " << rank;
  peer(rank).out = data;
  peer(rank).sends = true;
}

void TcpCommunicator::expect(int rank, std::span<std::byte> data) {
  GANTRY_CHECK(peer(rank).socket || aborted_) << "no connection to rank " << rank;
  peer(rank).in = data;
  peer(rank).receives = true;
}

Status TcpCommunicator::run() {
  Status status;
  {
    const std::lock_guard lock(call_mutex_);
    const int64_t end_ns = end_of(options_.deadline);
    for (bool done = false; !done && status.ok();) {
      const Result<bool> made = aborted_ ? abort_status() : progress();
      status = made.status();
      done = made.ok() && *made;
      if (status.ok() && !done) status = wait(end_ns);
    }
    status = leave(std::move(status));
  }
  // abort() came while this call was about to end.
  if (aborted_ && !told_) {
    const std::lock_guard lock(call_mutex_);
    tell_abort();
  }
  return status;
}

Result<bool> TcpCommunicator::progress() {
  for (int other = 0; other < size(); ++other) {
    if (peer(other).busy()) GANTRY_RETURN_IF_ERROR(write_to(other));
  }
  for (int other = 0; other < size(); ++other) GANTRY_RETURN_IF_ERROR(read_from(other));
  return std::none_of(peers_.begin(), peers_.end(), [](const Peer& p) { return p.busy(); });
}

Status TcpCommunicator::write_to(int rank) {
  Peer& to = peer(rank);
  for (;;) {
    Status status = to.socket->flush();
    if (status.ok() && (to.socket->unsent() > 0 || !to.sends)) return {};
    if (status.ok()) {
      // One record at a time, so that little is held here.
      const auto part = to.out.first(std::min(to.out.size(), limits::kRecordBytesMax));
      to.out = to.out.subspan(part.size());
      to.sends = !to.out.empty();
      sent_bytes_ += part.size();
      status = to.socket->send(tcp::RecordKind::kData, part);
    }
    if (!status.ok()) return unavailable("rank " + name(rank) + " has ended");
  }
}

Status TcpCommunicator::read_from(int rank) {
  Peer& from = peer(rank);
  while (from.receives) {
    const auto record = from.socket->next();
    if (!record.ok()) return record.status().with_context("rank " + name(rank));
    if (!*record) {
      const auto got = from.socket->receive();
      if (got == tcp::SecureSocket::Got::kNothing) return {};
      if (got == tcp::SecureSocket::Got::kEnd) return unavailable("rank " + name(rank) + " has ended");
      continue;
    }
    const std::string_view data = (*record)->data;
    if ((*record)->kind == tcp::RecordKind::kAbort) {
      set_reason(data);
      return abort_status();
    }
    const size_t due = std::min(from.in.size(), limits::kRecordBytesMax);
    if (data.size() != due) {
      return data_loss(fmt::format("rank {} sent {} bytes where {} were due", name(rank), data.size(), due));
    }
    if (due > 0) std::memcpy(from.in.data(), data.data(), due);
    from.in = from.in.subspan(due);
    from.receives = !from.in.empty();
  }
  return {};
}

Status TcpCommunicator::wait(int64_t end_ns) {
  std::vector<pollfd> looks{{.fd = wake_, .events = POLLIN, .revents = 0}};
  for (const Peer& p : peers_) {
    if (!p.busy()) continue;
    const bool writes = p.sends || p.socket->unsent() > 0;
    looks.push_back({.fd = p.socket->fd(),
                     .events = static_cast<short>((writes ? POLLOUT : 0) | (p.receives ? POLLIN : 0)),
                     .revents = 0});
  }
  const int64_t left_ns = end_ns - monotonic_ns();
  if (left_ns > 0) {
    poll(looks.data(), looks.size(), static_cast<int>(left_ns / 1'000'000 + 1));
    return {};
  }
  const auto late = std::find_if(peers_.begin(), peers_.end(), [](const Peer& p) { return p.busy(); });
  return Status(StatusCode::kDeadlineExceeded,
                fmt::format("rank {} did not come within {} ms",
                            name(static_cast<int>(late - peers_.begin())), options_.deadline.count()));
}

Status TcpCommunicator::leave(Status status) {
  for (Peer& p : peers_) p.sends = p.receives = false;
  if (!status.ok()) {
    set_reason(status.message());
    tell_abort();
  }
  return status;
}

void TcpCommunicator::abort(std::string_view reason) {
  set_reason(reason);
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_, &one, sizeof one);
  // A call that goes on sees aborted_ and tells the peers itself.
  const std::unique_lock lock(call_mutex_, std::try_to_lock);
  if (lock.owns_lock()) tell_abort();
}

void TcpCommunicator::set_reason(std::string_view reason) {
  const std::lock_guard lock(reason_mutex_);
  if (aborted_) return;
  reason_ = reason.substr(0, limits::kAbortReasonBytesMax);
  aborted_ = true;
}

void TcpCommunicator::tell_abort() {
  if (told_.exchange(true)) return;
  for (Peer& p : peers_) {
    if (!p.socket) continue;
    // What a peer does not take now it does not need: the socket's end says as much.
    const std::lock_guard lock(reason_mutex_);
    (void)p.socket->send(tcp::RecordKind::kAbort, std::as_bytes(std::span(reason_))).ok();
    shutdown(p.socket->fd(), SHUT_WR);
  }
}

Status TcpCommunicator::abort_status() const {
  const std::lock_guard lock(reason_mutex_);
  return unavailable("the group of ranks was aborted: " + reason_);
}

}  // namespace gantry

#include "comm/shm/shm_communicator.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>

#include "base/check.h"
#include "base/clock.h"

namespace gantry {
namespace {

using shm::Channel;
using shm::Counter;
using shm::kChunkBytes;
using shm::Segment;

constexpr int64_t kLookNs = 20'000'000;  // between two looks at a silent peer's process
constexpr size_t kChunkFloats = kChunkBytes / sizeof(float);

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Counters wrap: "at least" is by signed distance. They are never 2^31 apart.
bool reached(uint32_t value, uint32_t target) { return static_cast<int32_t>(value - target) >= 0; }

void advance(Counter& counter) {
  // Sequentially consistent with wait()'s registration: either the sleeper sees the new value or this sees it.
  counter.value.fetch_add(1);
  if (counter.sleepers.load() != 0) shm::futex_wake_all(counter.value);
}

void wake_everyone(Segment& segment) {
  for (int rank = 0; rank < segment.ranks(); ++rank) {
    shm::futex_wake_all(segment.header().states[static_cast<size_t>(rank)].arrived.value);
    for (int to = 0; to < segment.ranks(); ++to) {
      Channel& channel = segment.channel(rank, to);
      shm::futex_wake_all(channel.sent.value);
      shm::futex_wake_all(channel.taken.value);
    }
  }
}

// By `who` of the states, which calls it once.
void abort_segment(Segment& segment, int who, std::string_view reason) {
  // The text is written before it can be chosen, so whoever sees the abort sees all of its reason.
  std::array<char, shm::kReasonBytesMax>& text = segment.header().states[static_cast<size_t>(who)].reason;
  const size_t bytes = std::min(reason.size(), text.size() - 1);
  std::memcpy(text.data(), reason.data(), bytes);
  text[bytes] = '\0';
  uint32_t none = 0;
  if (segment.header().aborted.compare_exchange_strong(none, static_cast<uint32_t>(who) + 1)) {
    wake_everyone(segment);
  }
}

class ShmCommunicator final : public Communicator {
 public:
  ShmCommunicator(std::unique_ptr<Segment> segment, int rank, const ShmOptions& options)
      : segment_(std::move(segment)), rank_(rank), options_(options) {
    processes_.resize(static_cast<size_t>(size()), -1);
    sent_.resize(static_cast<size_t>(size()));
    taken_.resize(static_cast<size_t>(size()));
  }
  ~ShmCommunicator() override {
    for (const int fd : processes_) {
      if (fd >= 0) close(fd);
    }
  }

  // Shows this rank to the others and waits for them.
  Status join() {
    shm::Word& own = segment_->header().states[static_cast<size_t>(rank_)].pid;
    uint32_t none = 0;
    if (!own.compare_exchange_strong(none, static_cast<uint32_t>(getpid()))) {
      return invalid_argument("rank " + std::to_string(rank_) + " is taken by process " +
                              std::to_string(none));
    }
    return barrier();
  }

  int rank() const override { return rank_; }
  int size() const override { return segment_->ranks(); }

  Status all_gather(std::span<const std::byte> in, std::span<std::byte> out) override {
    GANTRY_CHECK(out.size() == in.size() * static_cast<size_t>(size()))
        << out.size() << " bytes for " << size() << " x " << in.size();
    for (size_t at = 0; at < in.size(); at += kChunkBytes) {
      const size_t bytes = std::min(kChunkBytes, in.size() - at);
      GANTRY_RETURN_IF_ERROR(exchange(in.data() + at, bytes, [&](int rank, const std::byte* chunk) {
        std::memcpy(out.data() + static_cast<size_t>(rank) * in.size() + at, chunk, bytes);
      }));
    }
    return {};
  }

  Status all_reduce_sum(std::span<float> values) override {
    for (size_t at = 0; at < values.size(); at += kChunkFloats) {
      const std::span<float> part = values.subspan(at, std::min(kChunkFloats, values.size() - at));
      GANTRY_RETURN_IF_ERROR(exchange(reinterpret_cast<const std::byte*>(part.data()), part.size_bytes(),
                                      [&](int rank, const std::byte* chunk) {
                                        if (rank == 0) {
                                          std::memcpy(part.data(), chunk, part.size_bytes());
                                          return;
                                        }
                                        const auto* other = reinterpret_cast<const float*>(chunk);
                                        for (size_t i = 0; i < part.size(); ++i) part[i] += other[i];
                                      }));
    }
    return {};
  }

  Status broadcast(std::span<std::byte> data, int root) override {
    GANTRY_CHECK(root >= 0 && root < size()) << "root " << root;
    for (size_t at = 0; at < data.size(); at += kChunkBytes) {
      const size_t bytes = std::min(kChunkBytes, data.size() - at);
      GANTRY_RETURN_IF_ERROR(
          exchange(data.data() + at, rank_ == root ? bytes : 0, [&](int rank, const std::byte* chunk) {
            if (rank == root && rank_ != root) std::memcpy(data.data() + at, chunk, bytes);
          }));
    }
    return {};
  }

  Status barrier() override {
    return exchange(nullptr, 0, [](int, const std::byte*) {});
  }

  Status send(std::span<const std::byte> data, int to) override {
    GANTRY_CHECK(to >= 0 && to < size() && to != rank_) << "rank " << to;
    Channel& channel = segment_->channel(rank_, to);
    uint32_t& sent = sent_[static_cast<size_t>(to)];
    for (size_t at = 0; at < data.size(); at += kChunkBytes) {
      GANTRY_RETURN_IF_ERROR(wait(channel.taken, sent - 1, to));  // the slot's last chunk is out
      const size_t bytes = std::min(kChunkBytes, data.size() - at);
      std::memcpy(segment_->channel_slot(rank_, to, sent % 2), data.data() + at, bytes);
      ++sent;
      advance(channel.sent);
    }
    return {};
  }

  Status receive(std::span<std::byte> data, int from) override {
    GANTRY_CHECK(from >= 0 && from < size() && from != rank_) << "rank " << from;
    Channel& channel = segment_->channel(from, rank_);
    uint32_t& taken = taken_[static_cast<size_t>(from)];
    for (size_t at = 0; at < data.size(); at += kChunkBytes) {
      GANTRY_RETURN_IF_ERROR(wait(channel.sent, taken + 1, from));
      const size_t bytes = std::min(kChunkBytes, data.size() - at);
      std::memcpy(data.data() + at, segment_->channel_slot(from, rank_, taken % 2), bytes);
      ++taken;
      advance(channel.taken);
    }
    return {};
  }

  void abort(std::string_view reason) override {
    if (!aborting_.exchange(true)) abort_segment(*segment_, rank_, reason);
  }

 private:
  // Publishes `bytes` of this rank and hands every rank's chunk to take(rank, chunk) in rank order.
  template <typename Take>
  Status exchange(const std::byte* data, size_t bytes, Take take) {
    const uint32_t parity = exchanges_ % 2;
    if (bytes > 0) std::memcpy(segment_->slot(rank_, parity), data, bytes);
    ++exchanges_;
    advance(state(rank_).arrived);
    for (int rank = 0; rank < size(); ++rank) {
      if (rank != rank_) GANTRY_RETURN_IF_ERROR(wait(state(rank).arrived, exchanges_, rank));
      take(rank, segment_->slot(rank, parity));
    }
    return aborted() ? abort_status() : Status();
  }

  // Until `counter`, which `peer` advances, has reached `target`.
  Status wait(Counter& counter, uint32_t target, int peer) {
    const int64_t start = monotonic_ns();
    const int64_t spin_until = start + std::chrono::nanoseconds(options_.spin).count();
    const int64_t end = start + std::chrono::nanoseconds(options_.deadline).count();
    while (!reached(counter.value.load(std::memory_order_acquire), target)) {
      if (aborted()) return abort_status();
      if (monotonic_ns() >= spin_until) break;
      pause();
    }
    for (;;) {
      counter.sleepers.fetch_add(1);
      const uint32_t seen = counter.value.load();
      const bool come = reached(seen, target);
      if (!come && !aborted()) shm::futex_wait(counter.value, seen, kLookNs);
      counter.sleepers.fetch_sub(1);
      if (come) return {};
      if (aborted()) return abort_status();
      const bool gone = ended(peer);
      if (reached(counter.value.load(), target)) return {};  // also of a peer that came and then ended
      if (gone) return give_up(unavailable("rank " + name(peer) + " has ended"));
      if (monotonic_ns() >= end) {
        return give_up(Status(StatusCode::kDeadlineExceeded, "rank " + name(peer) + " did not come within " +
                                                                 std::to_string(options_.deadline.count()) +
                                                                 " ms"));
      }
    }
  }

  std::string name(int peer) const { return std::to_string(options_.first_rank + peer); }
  // Whether the peer's process is gone. A zombie counts as gone: pidfds become readable at exit.
  bool ended(int peer) {
    const uint32_t pid = segment_->header().states[static_cast<size_t>(peer)].pid.load();
    if (pid == 0) return false;  // has not attached yet: the deadline decides
    int& fd = processes_[static_cast<size_t>(peer)];
    if (fd < 0) fd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
    if (fd < 0) return errno == ESRCH;
    pollfd look{.fd = fd, .events = POLLIN, .revents = 0};
    return poll(&look, 1, 0) == 1;
  }

  Status give_up(Status status) {
    abort(status.message());
    return status;
  }

  bool aborted() const { return segment_->header().aborted.load(std::memory_order_acquire) != 0; }
  Status abort_status() const {
    const uint32_t rank = segment_->header().aborted.load(std::memory_order_acquire) - 1;
    return unavailable(std::string("the group of ranks was aborted: ") +
                       segment_->header().states[rank].reason.data());
  }

  shm::RankState& state(int rank) const { return segment_->header().states[static_cast<size_t>(rank)]; }

  std::unique_ptr<Segment> segment_;
  int rank_;
  ShmOptions options_;
  uint32_t exchanges_ = 0;
  std::vector<uint32_t> sent_;   // chunks, by peer
  std::vector<uint32_t> taken_;  // chunks, by peer
  std::atomic<bool> aborting_{false};
  std::vector<int> processes_;  // pidfds, opened when a peer is first looked at
};

}  // namespace

Result<std::unique_ptr<Communicator>> open_shm_communicator(int fd, int rank, const ShmOptions& options) {
  GANTRY_ASSIGN_OR_RETURN(auto segment, Segment::attach(fd));
  if (rank < 0 || rank >= segment->ranks()) {
    return invalid_argument("rank " + std::to_string(rank) + " of a group of " +
                            std::to_string(segment->ranks()));
  }
  auto communicator = std::make_unique<ShmCommunicator>(std::move(segment), rank, options);
  GANTRY_RETURN_IF_ERROR(communicator->join());
  return std::unique_ptr<Communicator>(std::move(communicator));
}

void abort_group(shm::Segment& segment, std::string_view reason) {
  abort_segment(segment, shm::kMaker, reason);
}

}  // namespace gantry

#include "control/remote_replica.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>
#include <variant>

#include "base/clock.h"
#include "base/log.h"
#include "control/control_limits.h"

namespace gantry {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int kTickMs = 50;
// Without a sign of life: readiness must be shown anew.
constexpr int64_t kDoubtMs = 300;
// Reads between two looks at everything else.
constexpr int kReadsPerTurn = 64;

int64_t to_ns(double seconds) { return static_cast<int64_t>(seconds * 1e9); }

}  // namespace

Result<std::unique_ptr<RemoteReplica>> RemoteReplica::start(RemoteReplicaOptions options) {
  std::unique_ptr<RemoteReplica> replica(new RemoteReplica(std::move(options)));
  std::unique_lock lock(replica->mutex_);
  replica->started_.wait(lock, [&] { return replica->start_.has_value(); });
  const Status status = *replica->start_;
  lock.unlock();
  if (!status.ok()) return status;
  return replica;
}

RemoteReplica::RemoteReplica(RemoteReplicaOptions options)
    : options_(std::move(options)), wake_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  GANTRY_CHECK(wake_fd_ >= 0) << std::strerror(errno);
  state_.state = "starting";
  thread_ = std::thread([this] { run(); });
}

RemoteReplica::~RemoteReplica() {
  stop_ = true;
  wake();
  thread_.join();
  close(wake_fd_);
}

Status RemoteReplica::restart(const std::atomic<bool>& stop) {
  std::unique_lock lock(mutex_);
  // One that is being started is new enough.
  const uint32_t before = ready_ ? state_.epoch : state_.epoch - 1;
  if (ready_) restart_ = true;
  wake();
  while (!(state_.epoch > before && ready_)) {
    if (stop) return Status(StatusCode::kCancelled, "the server is stopping");
    if (state_.epoch > before + limits::kRestartTriesMax) {
      return unavailable(fmt::format("{} does not come back: {}", options_.name, state_.cause));
    }
    started_.wait_for(lock, std::chrono::milliseconds(kTickMs));
  }
  return {};
}

void RemoteReplica::set_sink(FrameSink* sink) {
  const std::lock_guard lock(sink_mutex_);
  sink_ = sink;
  if (sink_ != nullptr && !told_ready_) sink_->on_lost(unavailable("the worker is being started again"));
}

template <typename Fn>
void RemoteReplica::tell(Fn fn) {
  const std::lock_guard lock(sink_mutex_);
  if (sink_ != nullptr) fn(*sink_);
}

void RemoteReplica::wake() {
  const uint64_t one = 1;
  // Fails only when the counter is full, and then the thread is awake.
  [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof(one));
}

void RemoteReplica::clear_wake() {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = read(wake_fd_, &count, sizeof(count));
}

void RemoteReplica::enqueue(const ToReplica& message) {
  const std::string payload = encode(message);
  {
    const std::lock_guard lock(mutex_);
    if (!ready_) return;  // on_lost() has been called or will be
    append_frame(payload, outbox_);
  }
  wake();
}

Status RemoteReplica::submit(GenerateRequest request) {
  {
    const std::lock_guard lock(mutex_);
    if (draining_ && !request.admitted) return unavailable("the replica is shutting down");
  }
  enqueue(std::move(request));
  return {};
}

void RemoteReplica::cancel(RequestId request, int32_t choice) { enqueue(CancelChoice{request, choice}); }

void RemoteReplica::drain() {
  const std::lock_guard lock(mutex_);
  draining_ = true;
}

ReplicaStats RemoteReplica::stats() const {
  const std::lock_guard lock(mutex_);
  ReplicaStats stats = stats_;
  add_counters(stats, ended_);
  if (silent_ns_ > kDoubtMs * kMs) stats.last_token_ns = 0;
  return stats;
}

RemoteReplica::State RemoteReplica::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

void RemoteReplica::run() {
  while (!stop_) {
    started_ns_ = monotonic_ns();
    refusal_.reset();
    Result<std::unique_ptr<ChildProcess>> started = ChildProcess::start(options_.command);
    {
      const std::lock_guard lock(mutex_);
      ++state_.epoch;
      state_.pid = started.ok() ? (*started)->pid() : 0;
      state_.started_ns = started_ns_;
    }
    const Status cause = started.ok() ? attend(**started) : started.status();
    if (stop_) {
      if (started.ok()) {
        (*started)->hang_up();
        reap(**started, int64_t{limits::kWorkerExitSecondsMax} * 1000 * kMs);
      }
      break;
    }
    lose(cause);
    if (cause.code() == StatusCode::kCancelled) {
      (*started)->hang_up();
      reap(**started, int64_t{limits::kWorkerExitSecondsMax} * 1000 * kMs);
      continue;
    }
    if (started.ok()) reap(**started, 0);
    ++failures_;
    {
      const std::lock_guard lock(mutex_);
      const bool gives_up = refusal_.has_value() || failures_ >= options_.starts_max;
      if (!start_.has_value() && gives_up) start_ = cause;
      if (start_.has_value() && !start_->ok()) break;
    }
    const int doublings = std::clamp(failures_ - 2, 0, 16);
    const int64_t wait_ms =
        std::min<int64_t>(int64_t{limits::kRestartFirstWaitMs} << doublings, limits::kRestartWaitMsMax);
    if (failures_ > 1 && !pause(wait_ms * kMs)) break;
  }
  const std::lock_guard lock(mutex_);
  if (!start_.has_value()) start_ = Status(StatusCode::kCancelled, "stopped while the worker was starting");
  started_.notify_all();
}

bool RemoteReplica::pause(int64_t ns) {
  const int64_t end = monotonic_ns() + ns;
  while (!stop_) {
    const int64_t left = end - monotonic_ns();
    if (left <= 0) return true;
    pollfd wait{wake_fd_, POLLIN, 0};
    poll(&wait, 1, static_cast<int>(std::min<int64_t>(kTickMs, left / kMs + 1)));
    clear_wake();
    tell([](FrameSink& sink) { sink.on_tick(); });
  }
  return false;
}

void RemoteReplica::reap(ChildProcess& worker, int64_t limit_ns) {
  const int64_t end = monotonic_ns() + limit_ns;
  while (!worker.end()) {
    if (limit_ns > 0 && monotonic_ns() >= end) return;  // its destructor ends it
    pollfd ended{worker.pidfd(), POLLIN, 0};
    poll(&ended, 1, kTickMs);
    if (limit_ns == 0) tell([](FrameSink& sink) { sink.on_tick(); });
  }
}

void RemoteReplica::lose(const Status& cause) {
  if (cause.code() == StatusCode::kCancelled) {
    log::info("{}: {}", options_.name, cause.message());
  } else {
    log::error("{}: {}", options_.name, cause.message());
  }
  {
    const std::lock_guard lock(mutex_);
    ready_ = false;
    outbox_.clear();
    add_counters(ended_, std::exchange(stats_, {}));
    state_.state = "starting";
    state_.pid = 0;
    state_.ranks.clear();
    state_.cause = cause.message();
  }
  const bool was_ready = std::exchange(worker_ready_, false);
  sending_.clear();
  sent_ = 0;
  splitter_ = {};
  if (!was_ready) return;
  const std::lock_guard lock(sink_mutex_);
  told_ready_ = false;
  if (sink_ != nullptr) sink_->on_lost(cause);
}

Status RemoteReplica::attend(ChildProcess& worker) {
  const auto lost = [&](StatusCode code, const std::string& why) {
    worker.kill();
    return Status(code, fmt::format("the worker (pid {}) {}", worker.pid(), why));
  };
  fcntl(worker.socket(), F_SETFL, O_NONBLOCK);
  silent_ns_ = 0;
  int64_t looked_ns = monotonic_ns();
  while (!stop_) {
    if (restart_.exchange(false) && worker_ready_)
      return Status(StatusCode::kCancelled, "restarted as asked");
    GANTRY_RETURN_IF_ERROR(flush(worker));
    pollfd waits[] = {{worker.socket(), POLLIN, 0}, {worker.pidfd(), POLLIN, 0}, {wake_fd_, POLLIN, 0}};
    if (sent_ < sending_.size()) waits[0].events |= POLLOUT;
    poll(waits, 3, kTickMs);
    // Time in which this process was stopped itself tells nothing about the worker.
    const int64_t now = monotonic_ns();
    silent_ns_ += std::min<int64_t>(now - std::exchange(looked_ns, now), 2 * kTickMs * kMs);
    if (waits[2].revents != 0) clear_wake();
    const bool ended = waits[1].revents != 0;
    if (waits[0].revents != 0 || ended) {
      const Result<bool> open = receive(worker);
      if (!open.ok())
        return lost(StatusCode::kInternal, fmt::format("is ended: {}", open.status().message()));
      if (refusal_) {
        worker.kill();
        return *refusal_;
      }
      if (!*open || ended) {
        reap(worker, limits::kWorkerDeathMsMax * kMs);  // its own end, not kill(), is what to report
        const ChildProcess::End end = worker.end().value_or(ChildProcess::End{"closed its socket", true});
        return lost(end.crashed ? StatusCode::kInternal : StatusCode::kUnavailable, end.how);
      }
    }
    if (silent_ns_ > to_ns(options_.silence_s)) {
      return lost(StatusCode::kUnavailable,
                  fmt::format("gave no sign of life for {:.1f} s and is ended", options_.silence_s));
    }
    if (silent_ns_ > to_ns(options_.stopped_s) && worker.is_stopped()) {
      return lost(
          StatusCode::kUnavailable,
          fmt::format("is stopped, gave no sign of life for {:.1f} s and is ended", options_.stopped_s));
    }
    if (stats().step_running_ns > to_ns(options_.step_s)) {
      return lost(StatusCode::kInternal,
                  fmt::format("has a step that takes over {:.0f} s and is ended", options_.step_s));
    }
    tell([](FrameSink& sink) { sink.on_tick(); });
  }
  return {};
}

Status RemoteReplica::flush(ChildProcess& worker) {
  if (sent_ == sending_.size()) {
    sending_.clear();
    sent_ = 0;
  }
  {
    const std::lock_guard lock(mutex_);
    if (sending_.empty()) std::swap(sending_, outbox_);
    if (outbox_.size() > limits::kWorkerOutboxBytesMax) {
      worker.kill();
      return unavailable(fmt::format("the worker (pid {}) does not read what it is sent", worker.pid()));
    }
  }
  while (sent_ < sending_.size()) {
    const ssize_t sent =
        send(worker.socket(), sending_.data() + sent_, sending_.size() - sent_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) break;  // full, or the worker has died: receive() tells
    sent_ += static_cast<size_t>(sent);
  }
  return {};
}

Result<bool> RemoteReplica::receive(ChildProcess& worker) {
  for (int i = 0; i < kReadsPerTurn; ++i) {
    const std::span<char> space = splitter_.space();
    const ssize_t got = recv(worker.socket(), space.data(), space.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return true;
    if (got <= 0) return false;
    silent_ns_ = 0;
    splitter_.received(static_cast<size_t>(got));
    for (;;) {
      GANTRY_ASSIGN_OR_RETURN(const std::optional<std::string_view> payload, splitter_.next());
      if (!payload.has_value()) break;
      GANTRY_ASSIGN_OR_RETURN(FromReplica message,
                              decode_from_replica(*payload, worker_ready_ ? info_.vocab_size : 0));
      GANTRY_RETURN_IF_ERROR(take(std::move(message)));
    }
  }
  return true;
}

Status RemoteReplica::take_ready(ReplicaInfo&& info) {
  if (has_info_ && (info.model_id != info_.model_id || info.max_model_len != info_.max_model_len ||
                    info.vocab_size != info_.vocab_size)) {
    return data_loss("it came back with another model, vocabulary or max_model_len: the files have changed");
  }
  if (worker_ready_) return data_loss("it says twice that it is ready");
  worker_ready_ = true;
  std::vector<ReplicaRank> ranks = info.ranks;
  if (!std::exchange(has_info_, true)) info_ = std::move(info);
  {
    const std::lock_guard lock(mutex_);
    ready_ = true;
    state_.state = "ready";
    state_.ranks = std::move(ranks);
    log::info("{}: worker {} is ready after {:.2f} s", options_.name, state_.pid,
              static_cast<double>(monotonic_ns() - started_ns_) * 1e-9);
    if (!start_.has_value()) start_ = Status();
  }
  started_.notify_all();
  const std::lock_guard lock(sink_mutex_);
  if (!std::exchange(told_ready_, true) && sink_ != nullptr) sink_->on_ready();
  return {};
}

Status RemoteReplica::take(FromReplica&& message) {
  if (auto* info = std::get_if<ReplicaInfo>(&message)) return take_ready(std::move(*info));
  if (const auto* loading = std::get_if<ReplicaLoading>(&message)) {
    // start() is waiting, and with it what on_progress refers to.
    if (!has_info_ && options_.on_progress) options_.on_progress(loading->done, loading->total);
    return {};
  }
  if (auto* failed = std::get_if<ReplicaFailed>(&message)) {
    refusal_ = std::move(failed->status);
    return {};
  }
  if (const auto* stats = std::get_if<ReplicaStats>(&message)) {
    const std::lock_guard lock(mutex_);
    const int64_t last_token_ns =
        std::max(stats_.last_token_ns, stats->last_token_ns);  // a frame may be newer
    stats_ = *stats;
    stats_.last_token_ns = last_token_ns;
    return {};
  }
  if (!worker_ready_) return data_loss("it sends tokens before it is ready");
  if (auto* frame = std::get_if<StepFrame>(&message)) {
    failures_ = 0;
    {
      const std::lock_guard lock(mutex_);
      stats_.last_token_ns = monotonic_ns();
    }
    tell([&](FrameSink& sink) { sink.on_frame(std::move(*frame)); });
  } else if (const auto* started = std::get_if<StartedRequests>(&message)) {
    tell([&](FrameSink& sink) { sink.on_started(started->requests); });
  } else if (const auto* refused = std::get_if<RefusedRequest>(&message)) {
    tell([&](FrameSink& sink) { sink.on_refused(refused->request, refused->epoch, refused->status); });
  }
  return {};
}

}  // namespace gantry

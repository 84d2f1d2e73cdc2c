#include "engine/replica_service.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>
#include <variant>

#include "protocol/frame_stream.h"
#include "protocol/wire_limits.h"

namespace gantry {

ReplicaService::ReplicaService(int socket)
    : socket_(socket), signs_of_life_([this] { give_signs_of_life(); }) {}

ReplicaService::~ReplicaService() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  shutdown(socket_, SHUT_RDWR);  // ends a send() that waits
  signs_of_life_.join();
  close(socket_);
}

void ReplicaService::loading(uint64_t done, uint64_t total) {
  send(ReplicaLoading{std::min(done, total), total});
}

void ReplicaService::failed(const Status& status) { send(ReplicaFailed{status}); }

void ReplicaService::on_frame(StepFrame&& frame) {
  send(std::move(frame));
  ReplicaStats stats;
  {
    const std::lock_guard lock(mutex_);
    if (replica_ == nullptr) return;
    stats = replica_->stats();
  }
  send(stats);  // the numbers that go with the tokens
}

void ReplicaService::on_started(std::span<const RequestId> requests) {
  send(StartedRequests{{requests.begin(), requests.end()}});
}

void ReplicaService::send(const FromReplica& message) {
  const std::string payload = encode(message);
  const std::lock_guard lock(send_mutex_);
  if (closed_) return;
  out_.clear();
  append_frame(payload, out_);
  for (std::string_view rest = out_; !rest.empty();) {
    const ssize_t sent = ::send(socket_, rest.data(), rest.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) {
      closed_ = true;  // serve() sees the end as well
      return;
    }
    rest.remove_prefix(static_cast<size_t>(sent));
  }
}

void ReplicaService::give_signs_of_life() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    const ReplicaStats stats = replica_ != nullptr ? replica_->stats() : ReplicaStats();
    lock.unlock();  // send() may wait for the front
    send(stats);
    lock.lock();
    wake_.wait_for(lock, std::chrono::milliseconds(limits::kReplicaSignOfLifeMs), [&] { return stop_; });
  }
}

Status ReplicaService::take(std::string_view payload, ReplicaClient& replica) {
  GANTRY_ASSIGN_OR_RETURN(ToReplica message, decode_to_replica(payload));
  if (auto* request = std::get_if<GenerateRequest>(&message)) {
    const RequestId id = request->id;
    const uint32_t epoch = request->epoch;
    const Status status = replica.submit(std::move(*request));
    if (!status.ok()) send(RefusedRequest{id, epoch, status});
  } else {
    const auto& cancel = std::get<CancelChoice>(message);
    replica.cancel(cancel.request, cancel.choice);
  }
  return {};
}

Status ReplicaService::serve(ReplicaClient& replica) {
  send(replica.info());
  replica.set_sink(this);
  {
    const std::lock_guard lock(mutex_);
    replica_ = &replica;
  }
  FrameSplitter splitter;
  Status status;
  while (status.ok()) {
    const std::span<char> space = splitter.space();
    const ssize_t got = recv(socket_, space.data(), space.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) status = unavailable(fmt::format("the front's socket: {}", std::strerror(errno)));
    if (got <= 0) break;
    splitter.received(static_cast<size_t>(got));
    while (status.ok()) {
      const Result<std::optional<std::string_view>> payload = splitter.next();
      status = payload.status();
      if (!payload.ok() || !payload->has_value()) break;
      status = take(**payload, replica);
    }
  }
  {
    const std::lock_guard lock(mutex_);
    replica_ = nullptr;
  }
  shutdown(socket_, SHUT_RDWR);  // ends a send() of the engine that waits
  replica.set_sink(nullptr);
  return status;
}

}  // namespace gantry

#include "runtime/local_host.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "comm/shm/shm_communicator.h"
#include "runtime/group_limits.h"

namespace gantry {
namespace {

bool readable(int fd) {
  pollfd look{.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&look, 1, 0) == 1;
}

}  // namespace

Result<std::unique_ptr<LocalHost>> LocalHost::create(Options options) {
  std::unique_ptr<LocalHost> host(new LocalHost(std::move(options)));
  const Options& of = host->options_;
  if (of.memory_ranks > of.sizes.tensor) {
    GANTRY_ASSIGN_OR_RETURN(host->stages_segment_, shm::Segment::create(of.memory_ranks));
  }
  for (int32_t rank = of.sizes.tensor; of.sizes.tensor > 1 && rank <= of.memory_ranks;
       rank += of.sizes.tensor) {
    GANTRY_ASSIGN_OR_RETURN(auto segment, shm::Segment::create(of.sizes.tensor));
    host->stage_segments_.push_back(std::move(segment));
  }
  return host;
}

RankNetwork::Memory LocalHost::memory(int32_t rank) const {
  RankNetwork::Memory memory;
  if (stages_segment_ != nullptr) memory.stages = stages_segment_->fd();
  const auto stage = static_cast<size_t>((rank - options_.memory_first) / options_.sizes.tensor);
  if (!stage_segments_.empty()) memory.stage = stage_segments_[stage]->fd();
  return memory;
}

LocalHost::Child& LocalHost::child(int32_t rank) const {
  const auto found =
      std::find_if(children_.begin(), children_.end(), [&](const auto& c) { return c->rank == rank; });
  GANTRY_CHECK(found != children_.end()) << "rank " << rank << " is not of this host";
  return **found;
}

Status LocalHost::start(const RankSetup& setup) {
  std::vector<int> inherited;
  const RankNetwork::Memory segments = memory(setup.rank);
  if (has_stages_memory(setup)) inherited.push_back(segments.stages);
  if (has_stage_memory(setup)) inherited.push_back(segments.stage);
  auto child = std::make_unique<Child>();
  child->rank = setup.rank;
  GANTRY_ASSIGN_OR_RETURN(child->process, ChildProcess::start(options_.command, inherited));
  if (const int64_t ms = options_.send_limit.count(); ms > 0) {
    const timeval limit{.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    setsockopt(child->process->socket(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  }
  child->link = std::make_unique<RankLink>(child->process->socket());
  children_.push_back(std::move(child));
  return children_.back()->link->send(RankMessage::kSetup, encode(setup));
}

Status LocalHost::send(int32_t rank, RankMessage message, std::string_view payload) {
  return child(rank).link->send(message, payload);
}

bool LocalHost::try_send(int32_t rank, RankMessage message) { return child(rank).link->try_send(message); }

std::string LocalHost::place(int32_t rank) const {
  return fmt::format("process {}", child(rank).process->pid());
}

bool LocalHost::is_stopped(int32_t rank) const { return child(rank).process->is_stopped(); }

void LocalHost::watch(std::vector<pollfd>& looks) const {
  for (const auto& child : children_) {
    const ChildProcess& process = *child->process;
    looks.push_back({.fd = child->ended ? -1 : process.socket(), .events = POLLIN, .revents = 0});
    looks.push_back({.fd = child->ended ? -1 : process.pidfd(), .events = POLLIN, .revents = 0});
  }
}

Status LocalHost::take(std::span<const pollfd> looks, RankEvents& events) {
  for (size_t i = 0; i < children_.size(); ++i) {
    Child& child = *children_[i];
    bool open = true;
    if (looks[2 * i].revents != 0) {
      GANTRY_ASSIGN_OR_RETURN(open, read(child, events));
    }
    if (!open || looks[2 * i + 1].revents != 0) GANTRY_RETURN_IF_ERROR(take_end(child, events));
  }
  return {};
}

Result<bool> LocalHost::read(Child& child, RankEvents& events) {
  GANTRY_ASSIGN_OR_RETURN(const bool open, child.link->receive());
  for (;;) {
    const auto received = child.link->next();
    if (!received.ok()) return received.status().with_context(fmt::format("rank {}", child.rank));
    if (!*received) return open;
    GANTRY_RETURN_IF_ERROR(events.on_message(child.rank, (*received)->message, (*received)->payload));
  }
}

// A process may be seen to end before its socket is, and then its last words are still to be read.
Status LocalHost::take_end(Child& child, RankEvents& events) {
  for (bool open = true; open && readable(child.process->socket());) {
    GANTRY_ASSIGN_OR_RETURN(open, read(child, events));
  }
  pollfd end{.fd = child.process->pidfd(), .events = POLLIN, .revents = 0};
  poll(&end, 1, static_cast<int>(limits::kRankExitMax.count()));
  const std::optional<ChildProcess::End>& ended = child.process->end();
  child.ended = true;
  return events.on_end(child.rank, ended ? ended->how : "closed its socket", !ended || ended->crashed);
}

void LocalHost::abort(std::string_view reason) {
  if (stages_segment_ != nullptr) abort_group(*stages_segment_, reason);
  for (const auto& segment : stage_segments_) abort_group(*segment, reason);
}

void LocalHost::end(bool at_once) {
  for (const auto& child : children_) {
    shutdown(child->process->socket(), SHUT_RDWR);
    if (at_once) child->process->kill();
  }
  for (const auto& child : children_) {
    pollfd end{.fd = child->process->pidfd(), .events = POLLIN, .revents = 0};
    if (poll(&end, 1, static_cast<int>(limits::kRankExitMax.count())) == 0) child->process->kill();
    (void)child->process->end();  // leaves no zombie
  }
}

}  // namespace gantry

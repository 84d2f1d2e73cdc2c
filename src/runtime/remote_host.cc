#include "runtime/remote_host.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "runtime/group_limits.h"

namespace gantry {

RemoteHost::RemoteHost(int32_t number, tcp::Admitted agent)
    : number_(number), peer_(agent.peer), link_(std::move(agent.socket)) {}

RemoteHost::~RemoteHost() { link_.hang_up(); }

std::string RemoteHost::name() const {
  const std::lock_guard lock(mutex_);
  return host_name_.empty() ? fmt::format("host {} ({})", number_, peer_.host)
                            : fmt::format("host {} ({}, {})", number_, host_name_, peer_.host);
}

Status RemoteHost::start(const RankSetup& setup) {
  {
    const std::lock_guard lock(mutex_);
    pids_.emplace(setup.rank, 0);
  }
  return link_.send(HostMessage::kStartRank, encode(setup));
}

Status RemoteHost::send(int32_t rank, RankMessage message, std::string_view payload) {
  return link_.send(HostMessage::kToRank, encode(RankEnvelope{rank, message, payload}));
}

bool RemoteHost::try_send(int32_t rank, RankMessage message) {
  return link_.try_send(HostMessage::kToRank, encode(RankEnvelope{rank, message, {}}));
}

std::string RemoteHost::place(int32_t rank) const {
  int64_t pid = 0;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = pids_.find(rank); found != pids_.end()) pid = found->second;
  }
  return pid == 0 ? "on " + name() : fmt::format("process {} on {}", pid, name());
}

void RemoteHost::watch(std::vector<pollfd>& looks) const { looks.push_back(link_.watch()); }

Status RemoteHost::take(std::span<const pollfd> looks, RankEvents& events) {
  if (looks[0].revents == 0) return {};
  for (;;) {
    const auto received = link_.next();
    if (!received.ok()) return received.status().with_context(name());
    if (!*received) break;
    silent_ticks_ = 0;
    GANTRY_RETURN_IF_ERROR(take_message(**received, events));
  }
  return link_.ended() ? unavailable(name() + " closed its connection: its agent has ended") : Status();
}

Status RemoteHost::take_message(const HostLink::Received& received, RankEvents& events) {
  switch (received.message) {
    case HostMessage::kJoin: {
      GANTRY_ASSIGN_OR_RETURN(const HostJoin join, decode_join(received.payload));
      const std::lock_guard lock(mutex_);
      host_name_ = join.name;
      return {};
    }
    case HostMessage::kRankRuns: {
      GANTRY_ASSIGN_OR_RETURN(const RankProcess process, decode_process(received.payload));
      {
        const std::lock_guard lock(mutex_);
        const auto found = pids_.find(process.rank);
        if (found == pids_.end()) break;
        found->second = process.pid;
      }
      log::info("rank {} is {}", process.rank, place(process.rank));
      return {};
    }
    case HostMessage::kFromRank: {
      GANTRY_ASSIGN_OR_RETURN(const RankEnvelope envelope, decode_envelope(received.payload));
      GANTRY_RETURN_IF_ERROR(foreign_rank(envelope.rank));
      return events.on_message(envelope.rank, envelope.message, envelope.payload);
    }
    case HostMessage::kRankEnded: {
      GANTRY_ASSIGN_OR_RETURN(const RankEnd end, decode_end(received.payload));
      GANTRY_RETURN_IF_ERROR(foreign_rank(end.rank));
      return events.on_end(end.rank, end.how, end.crashed);
    }
    case HostMessage::kPong: {
      GANTRY_ASSIGN_OR_RETURN(RankList stopped, decode_list(received.payload));
      stopped_ = std::move(stopped.ranks);
      return {};
    }
    default:
      break;
  }
  return data_loss(name() + " sent what only rank 0 sends");
}

Status RemoteHost::foreign_rank(int32_t rank) const {
  const std::lock_guard lock(mutex_);
  if (pids_.contains(rank)) return {};
  return data_loss(fmt::format("host {} speaks for rank {}, which is not its own", number_, rank));
}

bool RemoteHost::is_stopped(int32_t rank) const {
  return std::find(stopped_.begin(), stopped_.end(), rank) != stopped_.end();
}

Status RemoteHost::tick() {
  if (++silent_ticks_ > limits::kHostSilentTicksMax) {
    return Status(StatusCode::kDeadlineExceeded,
                  fmt::format("{} gave no sign of life for {} ms", name(),
                              (limits::kRankTick * limits::kHostSilentTicksMax).count()));
  }
  link_.try_send(HostMessage::kPing);
  return {};
}

// The agent ends its ranks as soon as the connection ends.
void RemoteHost::abort(std::string_view) { link_.hang_up(); }

void RemoteHost::end(bool at_once) {
  if (!at_once && link_.send(HostMessage::kEnd).ok()) link_.finish(limits::kRankExitMax);
  link_.hang_up();
}

}  // namespace gantry

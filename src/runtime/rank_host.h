// Where the ranks of a replica other than rank 0 run. WorkerGroup knows them by number; a RankHost has their processes and
// the ways to them.
#pragma once

#include <poll.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "runtime/rank_messages.h"

namespace gantry {

// What a host has seen. An error ends the group.
class RankEvents {
 public:
  virtual ~RankEvents() = default;
  // The payload is valid during the call.
  virtual Status on_message(int32_t rank, RankMessage message, std::string_view payload) = 0;
  // The process is gone, and its last words came before. `how` is for people: "was killed by signal 9 (Killed)".
  // crashed: by a fault of its own, as ChildProcess::End has it.
  virtual Status on_end(int32_t rank, const std::string& how, bool crashed) = 0;
};

// One thread, the group's watcher, calls all but what is marked. Processes may end with the thread that starts them.
class RankHost {
 public:
  virtual ~RankHost() = default;

  // Starts the process of setup.rank, and gives it its setup.
  virtual Status start(const RankSetup& setup) = 0;
  // Thread-safe once the rank has started, as is try_send(), which does nothing (false) where send() would wait.
  virtual Status send(int32_t rank, RankMessage message, std::string_view payload = {}) = 0;
  virtual bool try_send(int32_t rank, RankMessage message) = 0;
  // For people: "process 4711". Thread-safe once the rank has started.
  virtual std::string place(int32_t rank) const = 0;

  // Whether a look at the rank's process shows that a signal has stopped it; false where it cannot be looked at.
  virtual bool is_stopped(int32_t /*rank*/) const { return false; }
  // Where its ranks listen for others.
  virtual std::string address() const = 0;

  // Adds what to poll for; the same number of entries as at the call before, those without interest with fd -1.
  virtual void watch(std::vector<pollfd>& looks) const = 0;
  // `looks` as watch() added them, after poll(). Reports what has come, in order.
  virtual Status take(std::span<const pollfd> looks, RankEvents& events) = 0;

  // Every kRankTick. An error: the host itself is lost.
  virtual Status tick() = 0;

  // Ends the waits of its ranks for each other. Thread-safe.
  virtual void abort(std::string_view reason) = 0;
  // Ends the ranks: by themselves within kRankExitMax, or at once.
  virtual void end(bool at_once) = 0;
};

}  // namespace gantry

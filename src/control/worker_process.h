// A child process that does a replica's work, at the other end of a socket pair.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace gantry {

// The worker's end of the pair, in the worker.
inline constexpr int kWorkerSocket = 3;

// Ends with its parent: the worker sets PR_SET_PDEATHSIG (which follows the thread that started it).
class WorkerProcess {
 public:
  // command: absolute path, then arguments. Standard input is empty; output and errors are the parent's.
  // kUnavailable says what failed.
  static Result<std::unique_ptr<WorkerProcess>> start(const std::vector<std::string>& command);
  // Ends it, and waits for its end.
  ~WorkerProcess();
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  pid_t pid() const { return pid_; }
  int socket() const { return socket_; }  // non-blocking
  int pidfd() const { return pidfd_; }    // readable once it has ended
  void kill();
  // Closes this end of the socket: the worker's sign to end by itself.
  void hang_up();
  struct End {
    std::string how;       // for people: "was killed by signal 9 (Killed)", "exited with 1"
    bool crashed = false;  // not by SIGKILL or another signal that comes from outside
  };
  // Empty while it runs.
  const std::optional<End>& end();

 private:
  WorkerProcess() = default;

  pid_t pid_ = -1;
  int socket_ = -1;
  int pidfd_ = -1;
  std::optional<End> end_;
};

}  // namespace gantry

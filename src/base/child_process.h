// A process that this one starts, at the other end of a socket pair.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace gantry {

// The child's end of the pair, in the child; what it inherits beside it follows.
inline constexpr int kParentSocket = 3;
inline constexpr int kFirstInherited = 4;

// A child's exit code for: what it needs was taken from it (EX_TEMPFAIL), by no fault of its own.
inline constexpr int kExitForLoss = 75;

// Ends with its parent where the child sets PR_SET_PDEATHSIG, which follows the thread that started it.
class ChildProcess {
 public:
  // command: absolute path, then arguments. Standard input is empty; output and errors are the parent's; `inherited`
  // descriptors become kFirstInherited and on, and the child has no others. kUnavailable says what failed.
  static Result<std::unique_ptr<ChildProcess>> start(const std::vector<std::string>& command,
                                                     std::span<const int> inherited = {});
  // Ends it, and waits for its end.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  int socket() const { return socket_; }
  int pidfd() const { return pidfd_; }  // readable once it has ended
  void kill();
  // Closes this end of the socket: the child's sign to end by itself.
  void hang_up();
  struct End {
    std::string how;       // for people: "was killed by signal 9 (Killed)", "exited with 1"
    bool crashed = false;  // not by SIGKILL or another signal that comes from outside, nor with kExitForLoss
  };
  // Empty while it runs.
  const std::optional<End>& end();
  // Whether a signal has stopped it (SIGSTOP, SIGTSTP): state T of proc(5). A process that only waits for a core is not.
  bool is_stopped() const;

 private:
  ChildProcess() = default;

  pid_t pid_ = -1;
  int socket_ = -1;
  int pidfd_ = -1;
  std::optional<End> end_;
};

}  // namespace gantry

#include "base/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

extern char** environ;

namespace gantry {
namespace {

Status failed(const std::string& what, int error) {
  return unavailable(fmt::format("a process cannot be started: {}: {}", what, std::strerror(error)));
}

// What the parent blocks or ignores is not the child's business.
void default_signals(posix_spawnattr_t& attributes) {
  sigset_t none, handled;
  sigemptyset(&none);
  sigemptyset(&handled);
  for (const int signal : {SIGPIPE, SIGTERM, SIGINT, SIGHUP}) sigaddset(&handled, signal);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &handled);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

}  // namespace

Result<std::unique_ptr<ChildProcess>> ChildProcess::start(const std::vector<std::string>& command,
                                                          std::span<const int> inherited) {
  std::unique_ptr<ChildProcess> child(new ChildProcess());
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return failed("socketpair", errno);
  child->socket_ = ends[0];
  // Copies beyond the numbers that the child gets: dup2() to a number in use would close it, and to its own number
  // would leave it close-on-exec.
  std::vector<int> theirs{ends[1]};
  theirs.insert(theirs.end(), inherited.begin(), inherited.end());
  const int beyond = kParentSocket + static_cast<int>(theirs.size());
  int error = 0;
  for (int& fd : theirs) {
    fd = fcntl(fd, F_DUPFD_CLOEXEC, beyond);
    if (fd < 0) error = errno;
  }
  close(ends[1]);

  std::vector<char*> arguments;
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  for (size_t i = 0; i < theirs.size(); ++i) {
    posix_spawn_file_actions_adddup2(&actions, theirs[i], kParentSocket + static_cast<int>(i));
  }
  // A client's connection that a child held too would not end when its parent closes it.
  posix_spawn_file_actions_addclosefrom_np(&actions, beyond);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  default_signals(attributes);
  if (error == 0) {
    error =
        posix_spawn(&child->pid_, command.front().c_str(), &actions, &attributes, arguments.data(), environ);
  }
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  for (const int fd : theirs) {
    if (fd >= 0) close(fd);
  }
  if (error != 0) {
    child->pid_ = -1;
    return failed(command.front(), error);
  }
  // glibc 2.36 declares pidfd_open() for C only.
  child->pidfd_ = static_cast<int>(syscall(SYS_pidfd_open, child->pid_, 0));
  if (child->pidfd_ < 0) return failed("pidfd_open", errno);
  return child;
}

ChildProcess::~ChildProcess() {
  hang_up();
  if (pid_ > 0 && !end()) {
    kill();
    waitpid(pid_, nullptr, 0);
  }
  if (pidfd_ >= 0) close(pidfd_);
}

void ChildProcess::kill() {
  if (pid_ > 0 && !end_) ::kill(pid_, SIGKILL);
}

void ChildProcess::hang_up() {
  if (socket_ >= 0) close(socket_);
  socket_ = -1;
}

const std::optional<ChildProcess::End>& ChildProcess::end() {
  int status = 0;
  if (end_ || waitpid(pid_, &status, WNOHANG) != pid_) return end_;
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    const char* name = sigdescr_np(signal);
    end_ = End{fmt::format("was killed by signal {} ({})", signal, name != nullptr ? name : "unknown"),
               signal != SIGKILL && signal != SIGTERM && signal != SIGINT && signal != SIGHUP};
  } else {
    const int code = WEXITSTATUS(status);
    end_ = End{fmt::format("exited with {}", code), code != kExitForLoss};
  }
  return end_;
}

bool ChildProcess::is_stopped() const {
  const int file = open(fmt::format("/proc/{}/stat", pid_).c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  char text[256];
  const ssize_t got = read(file, text, sizeof(text));
  close(file);
  // "PID (NAME) STATE ...", and the name may hold anything.
  const std::string_view line(text, got > 0 ? static_cast<size_t>(got) : 0);
  const size_t name_end = line.rfind(") ");
  return name_end != std::string_view::npos && line.substr(name_end + 2).starts_with('T');
}

}  // namespace gantry

#include "control/worker_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

extern char** environ;

namespace gantry {
namespace {

Status failed(const char* what, int error) {
  return unavailable(fmt::format("a worker cannot be started: {}: {}", what, std::strerror(error)));
}

// What the parent blocks or ignores is not the worker's business.
void default_signals(posix_spawnattr_t& attributes) {
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigemptyset(&all);
  for (const int signal : {SIGPIPE, SIGTERM, SIGINT, SIGHUP}) sigaddset(&all, signal);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

}  // namespace

Result<std::unique_ptr<WorkerProcess>> WorkerProcess::start(const std::vector<std::string>& command) {
  std::unique_ptr<WorkerProcess> worker(new WorkerProcess());
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return failed("socketpair", errno);
  worker->socket_ = ends[0];
  // Out of the way of kWorkerSocket, which dup2() would leave with CLOEXEC if it were the same.
  const int theirs = fcntl(ends[1], F_DUPFD_CLOEXEC, kWorkerSocket + 1);
  close(ends[1]);
  if (theirs < 0) return failed("fcntl", errno);
  fcntl(worker->socket_, F_SETFL, O_NONBLOCK);

  std::vector<char*> arguments;
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, theirs, kWorkerSocket);
  // A client's connection that a worker held too would not end when the front closes it.
  posix_spawn_file_actions_addclosefrom_np(&actions, kWorkerSocket + 1);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  default_signals(attributes);
  const int error =
      posix_spawn(&worker->pid_, command.front().c_str(), &actions, &attributes, arguments.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  close(theirs);
  if (error != 0) {
    worker->pid_ = -1;
    return failed(command.front().c_str(), error);
  }
  // glibc 2.36 declares pidfd_open() for C only.
  worker->pidfd_ = static_cast<int>(syscall(SYS_pidfd_open, worker->pid_, 0));
  if (worker->pidfd_ < 0) return failed("pidfd_open", errno);
  return worker;
}

WorkerProcess::~WorkerProcess() {
  hang_up();
  if (pid_ > 0 && !end_) {
    kill();
    waitpid(pid_, nullptr, 0);
  }
  if (pidfd_ >= 0) close(pidfd_);
}

void WorkerProcess::kill() {
  if (pid_ > 0 && !end_) ::kill(pid_, SIGKILL);
}

void WorkerProcess::hang_up() {
  if (socket_ >= 0) close(socket_);
  socket_ = -1;
}

const std::optional<WorkerProcess::End>& WorkerProcess::end() {
  int status = 0;
  if (end_ || waitpid(pid_, &status, WNOHANG) != pid_) return end_;
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    const char* name = sigdescr_np(signal);
    end_ = End{fmt::format("was killed by signal {} ({})", signal, name != nullptr ? name : "unknown"),
               signal != SIGKILL && signal != SIGTERM && signal != SIGINT && signal != SIGHUP};
  } else {
    end_ = End{fmt::format("exited with {}", WEXITSTATUS(status)), true};
  }
  return end_;
}

}  // namespace gantry

#include "base/child_process.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

namespace gantry {
namespace {

// Waits for the child's next change of state, and leaves it to be waited for again.
void wait_for(const ChildProcess& child, int change) {
  siginfo_t info;
  EXPECT_EQ(waitid(P_PID, static_cast<id_t>(child.pid()), &info, change | WNOWAIT), 0);
}

TEST(ChildProcess, OneThatIsStoppedIsTold) {
  const auto child = ChildProcess::start({"/bin/cat"}).value();
  EXPECT_FALSE(child->is_stopped());
  const auto waiting = ChildProcess::start({"/bin/sh", "-c", "kill -STOP $$; exit 3"}).value();
  wait_for(*waiting, WSTOPPED);
  EXPECT_TRUE(waiting->is_stopped());
  EXPECT_FALSE(waiting->end());
  kill(waiting->pid(), SIGCONT);
  pollfd end{.fd = waiting->pidfd(), .events = POLLIN, .revents = 0};
  poll(&end, 1, -1);
  EXPECT_FALSE(waiting->is_stopped());
  ASSERT_TRUE(waiting->end());
  EXPECT_EQ(waiting->end()->how, "exited with 3");
  EXPECT_TRUE(waiting->end()->crashed);
}

TEST(ChildProcess, OneThatIsKilledSaysSo) {
  const auto child = ChildProcess::start({"/bin/sh", "-c", "kill -STOP $$"}).value();
  wait_for(*child, WSTOPPED);
  child->kill();
  pollfd end{.fd = child->pidfd(), .events = POLLIN, .revents = 0};
  poll(&end, 1, -1);
  ASSERT_TRUE(child->end());
  EXPECT_EQ(child->end()->how, "was killed by signal 9 (Killed)");
  EXPECT_FALSE(child->end()->crashed);
}

TEST(ChildProcess, OneThatLostWhatItNeedsHasNotCrashed) {
  const auto child = ChildProcess::start({"/bin/sh", "-c", "exit " + std::to_string(kExitForLoss)}).value();
  pollfd end{.fd = child->pidfd(), .events = POLLIN, .revents = 0};
  poll(&end, 1, -1);
  ASSERT_TRUE(child->end());
  EXPECT_EQ(child->end()->how, "exited with 75");
  EXPECT_FALSE(child->end()->crashed);
}

TEST(ChildProcess, OneThatCannotStartSaysWhy) {
  const auto child = ChildProcess::start({"/nowhere/gantry"});
  EXPECT_EQ(child.status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(child.status().message(),
            "a process cannot be started: /nowhere/gantry: No such file or directory");
}

}  // namespace
}  // namespace gantry

#include "control/remote_replica.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <map>

#include "control/testing/fake_worker.h"

namespace gantry {
namespace {

using testing::HasSubstr;

class Recorder : public FrameSink {
 public:
  void on_frame(StepFrame&& frame) override {
    const std::lock_guard lock(mutex_);
    for (const TokenEvent& event : frame.tokens) tokens_[event.request.value].push_back(event.token);
    changed_.notify_all();
  }
  void on_started(std::span<const RequestId> requests) override {
    add(started, static_cast<int>(requests.size()));
  }
  void on_refused(RequestId, uint32_t, const Status& status) override {
    {
      const std::lock_guard lock(mutex_);
      refusal = status;
    }
    add(refused, 1);
  }
  void on_lost(const Status& why) override {
    {
      const std::lock_guard lock(mutex_);
      cause = why.message();
    }
    add(lost, 1);
  }
  void on_ready() override { add(ready, 1); }

  void wait_for(const int& counter, int value) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(120), [&] { return counter >= value; }));
  }
  std::vector<TokenId> wait_for_tokens(uint64_t request, size_t count) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(
        changed_.wait_for(lock, std::chrono::seconds(120), [&] { return tokens_[request].size() >= count; }));
    return tokens_[request];
  }

  int started = 0;
  int refused = 0;
  int lost = 0;
  int ready = 0;
  std::string cause;
  Status refusal;

 private:
  void add(int& counter, int count) {
    const std::lock_guard lock(mutex_);
    counter += count;
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<uint64_t, std::vector<TokenId>> tokens_;
};

RemoteReplicaOptions options(std::vector<std::string> arguments = {}) {
  RemoteReplicaOptions o;
  o.name = "fake-0";
  o.command = {std::filesystem::read_symlink("/proc/self/exe").parent_path() / "fake_worker"};
  o.command.insert(o.command.end(), arguments.begin(), arguments.end());
  o.silence_s = 60;  // tests that want less say so: the machine may be busy
  return o;
}

GenerateRequest request(uint64_t id, TokenId first, int32_t max_tokens = 3) {
  GenerateRequest r;
  r.id = RequestId{id};
  r.prompt = {first};
  r.params.max_tokens = max_tokens;
  return r;
}

struct RemoteReplicaTest : testing::Test {
  void start(RemoteReplicaOptions o) {
    auto started = RemoteReplica::start(std::move(o));
    ASSERT_TRUE(started.ok()) << started.status().message();
    replica = std::move(started).value();
    replica->set_sink(&recorder);
  }
  // Works again, in a new process.
  void expect_replaced(int64_t old_pid) {
    recorder.wait_for(recorder.ready, 1);
    const RemoteReplica::State state = replica->state();
    EXPECT_EQ(state.state, "ready");
    EXPECT_EQ(state.epoch, 2u);
    EXPECT_NE(state.pid, old_pid);
    EXPECT_EQ(state.cause, recorder.cause);
    EXPECT_EQ(kill(static_cast<pid_t>(old_pid), 0), -1);
    EXPECT_EQ(errno, ESRCH);
    ASSERT_TRUE(replica->submit(request(100, 7)).ok());
    EXPECT_EQ(recorder.wait_for_tokens(100, 3), (std::vector<TokenId>{7, 8, 9}));
  }
  Recorder recorder;
  std::unique_ptr<RemoteReplica> replica;
};

TEST_F(RemoteReplicaTest, StreamsFromAProcessAndEndsIt) {
  start(options());
  EXPECT_EQ(replica->info().model_id, "fake");
  EXPECT_EQ(replica->info().vocab_size, fake_worker::kVocab);
  ASSERT_TRUE(replica->submit(request(1, 5)).ok());
  EXPECT_EQ(recorder.wait_for_tokens(1, 3), (std::vector<TokenId>{5, 6, 7}));
  EXPECT_EQ(recorder.started, 1);
  EXPECT_GT(replica->stats().last_token_ns, 0);
  const RemoteReplica::State state = replica->state();
  EXPECT_EQ(state.state, "ready");
  EXPECT_EQ(state.epoch, 1u);
  EXPECT_GT(state.started_ns, 0);
  ASSERT_EQ(state.ranks.size(), 1u);
  EXPECT_EQ(state.ranks[0].pid, state.pid);
  EXPECT_EQ(kill(static_cast<pid_t>(state.pid), 0), 0);
  replica.reset();
  EXPECT_EQ(kill(static_cast<pid_t>(state.pid), 0), -1);
}

TEST_F(RemoteReplicaTest, AKilledWorkerIsReplaced) {
  start(options());
  ASSERT_TRUE(replica->submit(request(1, fake_worker::kNoEnd)).ok());
  recorder.wait_for_tokens(1, 3);
  const int64_t pid = replica->state().pid;
  kill(static_cast<pid_t>(pid), SIGKILL);
  recorder.wait_for(recorder.lost, 1);
  EXPECT_EQ(replica->stats().last_token_ns, 0);
  EXPECT_THAT(recorder.cause, HasSubstr("was killed by signal 9 (Killed)"));
  expect_replaced(pid);
}

TEST_F(RemoteReplicaTest, AWorkerThatCrashesIsReplaced) {
  start(options());
  const int64_t pid = replica->state().pid;
  ASSERT_TRUE(replica->submit(request(1, fake_worker::kAbort)).ok());
  recorder.wait_for(recorder.lost, 1);
  EXPECT_THAT(recorder.cause, HasSubstr("was killed by signal 6 (Aborted)"));
  EXPECT_EQ(recorder.started, 1);
  expect_replaced(pid);
}

TEST_F(RemoteReplicaTest, AStoppedWorkerIsEndedAndReplaced) {
  start(options());
  const int64_t pid = replica->state().pid;
  ASSERT_TRUE(replica->submit(request(1, fake_worker::kStop)).ok());
  recorder.wait_for(recorder.lost, 1);
  EXPECT_THAT(recorder.cause, HasSubstr("is stopped, gave no sign of life for 0.4 s"));
  recorder.wait_for(recorder.ready, 1);
  EXPECT_EQ(kill(static_cast<pid_t>(pid), 0), -1);
}

TEST_F(RemoteReplicaTest, ASilentWorkerIsEndedAndReplaced) {
  RemoteReplicaOptions o = options();
  o.silence_s = 1;
  start(std::move(o));
  const int64_t pid = replica->state().pid;
  ASSERT_TRUE(replica->submit(request(1, fake_worker::kSilent)).ok());
  recorder.wait_for(recorder.lost, 1);
  EXPECT_THAT(recorder.cause, HasSubstr("gave no sign of life for 1.0 s"));
  recorder.wait_for(recorder.ready, 1);
  EXPECT_EQ(kill(static_cast<pid_t>(pid), 0), -1);
}

TEST_F(RemoteReplicaTest, AWorkerWhoseStepHangsIsEndedAndReplaced) {
  start(options());
  const int64_t pid = replica->state().pid;
  ASSERT_TRUE(replica->submit(request(1, fake_worker::kSlowStep)).ok());
  recorder.wait_for(recorder.lost, 1);
  EXPECT_THAT(recorder.cause, HasSubstr("has a step that takes over 300 s"));
  expect_replaced(pid);
}

TEST_F(RemoteReplicaTest, AWorkerThatSendsNonsenseIsEndedAndReplaced) {
  start(options());
  const int64_t pid = replica->state().pid;
  ASSERT_TRUE(replica->submit(request(1, fake_worker::kBadToken)).ok());
  recorder.wait_for(recorder.lost, 1);
  EXPECT_THAT(recorder.cause, HasSubstr("token is 5000, must be -1 to 99"));
  expect_replaced(pid);
}

TEST_F(RemoteReplicaTest, HandsOnARefusal) {
  start(options());
  ASSERT_TRUE(replica->submit(request(1, fake_worker::kRefuse)).ok());
  recorder.wait_for(recorder.refused, 1);
  EXPECT_EQ(recorder.refusal.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(recorder.refusal.param(), "prompt");
}

TEST_F(RemoteReplicaTest, CountersGoOnOverARestart) {
  start(options());
  const auto generated = [&](int64_t count) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(120);
    while (replica->stats().generated_tokens < count) {
      ASSERT_LT(std::chrono::steady_clock::now(), end);
      std::this_thread::yield();
    }
  };
  ASSERT_TRUE(replica->submit(request(1, 5)).ok());
  generated(3);
  kill(static_cast<pid_t>(replica->state().pid), SIGKILL);
  recorder.wait_for(recorder.ready, 1);
  ASSERT_TRUE(replica->submit(request(2, 5)).ok());
  generated(6);
}

TEST_F(RemoteReplicaTest, RestartsWhenAsked) {
  start(options());
  const int64_t pid = replica->state().pid;
  ASSERT_TRUE(replica->submit(request(1, fake_worker::kNoEnd)).ok());
  recorder.wait_for_tokens(1, 3);
  const std::atomic<bool> stop{false};
  ASSERT_TRUE(replica->restart(stop).ok());
  recorder.wait_for(recorder.lost, 1);
  EXPECT_EQ(recorder.cause, "restarted as asked");
  expect_replaced(pid);
  const std::atomic<bool> stopped{true};
  EXPECT_EQ(replica->restart(stopped).code(), StatusCode::kCancelled);
}

TEST_F(RemoteReplicaTest, ARestartThatFailsSaysWhy) {
  const std::filesystem::path file =
      std::filesystem::temp_directory_path() / ("gantry_worker_once_" + std::to_string(getpid()));
  start(options({"serve once", file}));
  const std::atomic<bool> stop{false};
  const Status status = replica->restart(stop);
  std::filesystem::remove(file);
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("fake-0 does not come back: the worker"));
  EXPECT_THAT(status.message(), HasSubstr("exited with 3"));
  recorder.wait_for(recorder.ready, 1);  // and still it is tried
}

TEST(RemoteReplica, AFailedStartGivesTheReason) {
  const auto refused = RemoteReplica::start(options({"refuse"}));
  EXPECT_EQ(refused.status().code(), StatusCode::kNotFound);
  EXPECT_EQ(refused.status().message(), "no such model");
  const auto died = RemoteReplica::start(options({"die"}));
  EXPECT_EQ(died.status().code(), StatusCode::kInternal);
  EXPECT_THAT(died.status().message(), HasSubstr("exited with 3"));
  RemoteReplicaOptions missing = options();
  missing.command = {"/no/such/program"};
  EXPECT_THAT(RemoteReplica::start(missing).status().message(), HasSubstr("/no/such/program: No such file"));
}

TEST(RemoteReplica, AWorkerThatDiesWhileItLoadsIsStartedAgain) {
  const std::filesystem::path file =
      std::filesystem::temp_directory_path() / ("gantry_worker_" + std::to_string(getpid()));
  const auto replica = RemoteReplica::start(options({"die once", file}));
  std::filesystem::remove(file);
  ASSERT_TRUE(replica.ok()) << replica.status().message();
  EXPECT_EQ((*replica)->state().epoch, 2u);
  EXPECT_THAT((*replica)->state().cause, HasSubstr("was killed by signal 6"));
}

TEST(RemoteReplica, TellsHowFarLoadingIs) {
  RemoteReplicaOptions o = options({"load"});
  std::vector<std::pair<uint64_t, uint64_t>> seen;
  o.on_progress = [&](uint64_t done, uint64_t total) { seen.emplace_back(done, total); };
  ASSERT_TRUE(RemoteReplica::start(std::move(o)).ok());
  EXPECT_EQ(seen, (std::vector<std::pair<uint64_t, uint64_t>>{{1, 2}, {2, 2}}));
}

}  // namespace
}  // namespace gantry

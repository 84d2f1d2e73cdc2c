// The ranks of a replica, a process each: rank 0 is the caller's own process, which plans; the others, on a RankHost,
// follow it plan by plan. A rank that dies, hangs or cannot load is named in one line, and all end with it.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "comm/tcp/acceptor.h"
#include "model/rank_groups.h"
#include "runtime/draft_ids.h"
#include "runtime/group_hosts.h"
#include "runtime/local_host.h"
#include "runtime/model_runner.h"
#include "runtime/rank_host.h"
#include "runtime/rank_messages.h"
#include "runtime/rank_network.h"
#include "runtime/remote_host.h"
#include "runtime/step_executor.h"

namespace gantry {

struct WorkerGroupOptions {
  RankSetup setup;                   // of all ranks but for `rank`
  std::vector<std::string> command;  // absolute path and arguments of a process that calls run_follower()
  GroupHosts hosts{};                // a stage's ranks are on one
};

class WorkerGroup : private RankEvents {
 public:
  // Waits for the hosts, starts the processes and joins the groups. Errors, here and below: which rank failed and why, with the code and
  // param() of its own error where it is one of loading.
  static Result<std::unique_ptr<WorkerGroup>> start(WorkerGroupOptions options);
  // The followers end.
  ~WorkerGroup() override;
  WorkerGroup(const WorkerGroup&) = delete;
  WorkerGroup& operator=(const WorkerGroup&) = delete;

  // Rank 0's ends. As long as the group lives.
  RankGroups ranks() const;
  const RankSetup& setup() const { return options_.setup; }
  const ParallelSizes& sizes() const { return options_.setup.sizes; }
  // Waits until every follower has loaded: the most bytes that a KV block takes on one of them.
  Result<uint64_t> wait_loaded();
  // All ranks' processes, once they have loaded.
  std::vector<ReplicaRank> processes();
  // From now on plans may come.
  Status begin(const RankBegin& begin);
  // To every follower; starts go to the rank that samples.
  Status send(const StepPlan& plan);
  // The oldest result of the last stage, where that is not rank 0's.
  Status receive(StepResult& result);
  // From now on this process ends where the group would fail, once it has said why: its front starts it again.
  void end_process_on_failure() { ends_process_ = true; }
  bool failed();
  // Why the group has ended, given what a call of rank 0's own ended with: the cause is often another rank's.
  Status cause(const Status& own);

 private:
  struct Follower {
    int32_t rank = 0;
    RankHost* host = nullptr;  // null until it has come
    bool started = false;
    bool loaded = false;
    bool gone = false;  // it ended because of another, which is seen in a moment
    RankStarted ports{};
    uint64_t kv_block_bytes = 0;
    ReplicaRank process{};
    int silent_ticks = 0;  // since its last message; counted from its first
  };

  explicit WorkerGroup(WorkerGroupOptions options);
  Status open();
  // Waits until the followers run, and joins the groups with them.
  Status join();
  RankSetup setup_of(int32_t rank) const;
  int32_t ranks_per_host() const { return sizes().ranks() / options_.hosts.count; }
  std::string since_start() const;

  // The watcher's: starts the processes, since they end with the thread that did, and listens to them.
  void watch();
  Status spawn(int32_t host);
  void listen();
  // Hosts that have proven who they are.
  Status take_hosts(std::span<const pollfd> looks);
  // Why the host cannot join; empty if it can.
  std::string refusal(uint32_t number) const;
  bool hosts_missing() const;
  Status tick();
  Status on_message(int32_t rank, RankMessage message, std::string_view payload) override;
  Status on_end(int32_t rank, const std::string& how, bool crashed) override;
  // The first stands; the watcher ends the followers.
  void fail(const Status& status);
  void end_followers();
  Follower& follower(int32_t rank) { return followers_[static_cast<size_t>(rank) - 1]; }
  std::string name(const Follower& follower) const;

  const WorkerGroupOptions options_;
  const std::chrono::steady_clock::time_point started_at_ = std::chrono::steady_clock::now();
  RankSetup setup_;  // of rank 0
  std::unique_ptr<LocalHost> local_;
  std::unique_ptr<tcp::Acceptor> acceptor_;           // null without other hosts
  std::vector<std::unique_ptr<RemoteHost>> remotes_;  // by number - 1; null until it has come
  std::unique_ptr<RankNetwork> network_;              // rank 0's
  std::vector<Follower> followers_;                   // by rank - 1
  int wake_ = -1;                                     // eventfd

  std::atomic<bool> ends_process_{false};
  std::mutex mutex_;  // of what follows, and of the followers' started, loaded, kv_block_bytes, process
  std::condition_variable changed_;
  bool stop_ = false;
  Status failed_;
  Status suspected_;  // what ranks say of others, until the cause is seen
  std::chrono::steady_clock::time_point suspected_at_;
  std::deque<StepResult> results_;

  std::thread watcher_;
};

// Runs plans on a group; `runner` is rank 0's own.
class GroupExecutor : public StepExecutor {
 public:
  GroupExecutor(WorkerGroup& group, ModelRunner& runner);
  void submit(const StepPlan& plan) override;
  Status collect(StepResult& result) override;

 private:
  WorkerGroup& group_;
  ModelRunner& runner_;
  std::optional<DraftIds> draft_ids_;  // of a group that drafts
  Status failed_;
};

}  // namespace gantry

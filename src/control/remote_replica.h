// A replica in a worker process of its own: started, watched, and started again when it dies or hangs. What it was
// doing then is the sink's to submit again (control/front).
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/child_process.h"
#include "base/status.h"
#include "protocol/frame_stream.h"
#include "protocol/replica_client.h"
#include "protocol/replica_codec.h"

namespace gantry {

struct RemoteReplicaOptions {
  std::string name;                  // in logs
  std::vector<std::string> command;  // absolute path and arguments of the worker; its socket is kParentSocket
  // Without a sign of life, of which ten a second are due: it hangs. One that waits for a core may be silent for long,
  // one that a signal has stopped is given less.
  double silence_s = 3;
  double stopped_s = 0.4;
  double step_s = 300;  // that a step may take: it hangs
  int starts_max = 3;   // that may fail before the first is ready
  // On the replica's own thread.
  std::function<void(uint64_t done, uint64_t total)> on_progress{};
};

class RemoteReplica : public ReplicaClient {
 public:
  // Waits until the worker is ready. Errors: the worker's own reason why it cannot start (of a model, say); how it
  // ended, if it did so starts_max times.
  static Result<std::unique_ptr<RemoteReplica>> start(RemoteReplicaOptions options);
  // The worker ends within kWorkerExitSecondsMax, or is ended.
  ~RemoteReplica() override;

  // Ends the worker and waits until its successor is ready: its streams go on elsewhere, or there (on_lost() with
  // kCancelled). kUnavailable: kRestartTriesMax did not get ready, and why; more are tried. kCancelled once `stop` is set.
  Status restart(const std::atomic<bool>& stop);

  void set_sink(FrameSink* sink) override;
  Status submit(GenerateRequest request) override;
  void cancel(RequestId request, int32_t choice) override;
  void drain() override;
  // Counters go on over restarts. Without signs of life, or before a restarted worker has generated a token, there is
  // no last token.
  ReplicaStats stats() const override;
  const ReplicaInfo& info() const override { return info_; }

  struct State {
    std::string state;               // "starting", "ready"
    uint32_t epoch = 0;              // workers started so far
    int64_t pid = 0;                 // 0: none at the moment
    std::string cause;               // why the one before ended; empty at the first
    int64_t started_ns = 0;          // monotonic, of the last start
    std::vector<ReplicaRank> ranks;  // while it is ready
  };
  State state() const;

 private:
  explicit RemoteReplica(RemoteReplicaOptions options);

  void run();
  // Serves the worker until it is lost (why) or stop_ is set (kOk).
  Status attend(ChildProcess& worker);
  // Reads what has come. False at the end of the stream.
  Result<bool> receive(ChildProcess& worker);
  Status take(FromReplica&& message);
  Status take_ready(ReplicaInfo&& info);
  Status flush(ChildProcess& worker);
  void lose(const Status& cause);
  // Waits for the worker's end; no longer than `limit_ns`, if it is above 0.
  void reap(ChildProcess& worker, int64_t limit_ns);
  // Waits; false if it must stop.
  bool pause(int64_t ns);
  void enqueue(const ToReplica& message);
  void wake();
  void clear_wake();
  template <typename Fn>
  void tell(Fn fn);

  const RemoteReplicaOptions options_;
  const int wake_fd_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> restart_{false};

  std::mutex sink_mutex_;  // held during a call of the sink
  FrameSink* sink_ = nullptr;
  bool told_ready_ = true;  // under sink_mutex_: what a new sink believes

  mutable std::mutex mutex_;  // guards the next block
  std::condition_variable started_;
  std::optional<Status> start_;  // how the first start went
  State state_;
  bool ready_ = false;
  bool draining_ = false;
  std::string outbox_;
  ReplicaStats stats_;
  ReplicaStats ended_;  // counters of the workers before

  // The thread's own.
  ReplicaInfo info_;  // set before start() returns, then fixed
  bool has_info_ = false;
  std::string sending_;
  size_t sent_ = 0;
  FrameSplitter splitter_;
  bool worker_ready_ = false;
  int64_t started_ns_ = 0;
  std::atomic<int64_t> silent_ns_{0};  // since the last sign of life
  int failures_ = 0;                   // workers in a row that ended without a token
  std::optional<Status> refusal_;      // the worker says that it cannot start

  std::thread thread_;
};

}  // namespace gantry

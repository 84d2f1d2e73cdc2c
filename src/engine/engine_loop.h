// The loop of one replica: drain → schedule → execute → advance → publish, on one thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "base/status.h"
#include "protocol/replica_client.h"
#include "runtime/step_executor.h"
#include "sched/scheduler.h"

namespace gantry {

class EngineLoop {
 public:
  // Starts the thread. The executor outlives the loop.
  EngineLoop(StepExecutor& executor, const SchedulerOptions& options, int64_t vocab_size);
  // Ends what is open (kCancelled), tells the sink, and joins.
  ~EngineLoop();
  EngineLoop(const EngineLoop&) = delete;
  EngineLoop& operator=(const EngineLoop&) = delete;

  // As in ReplicaClient.
  void set_sink(FrameSink* sink);
  Status submit(GenerateRequest request);
  void cancel(RequestId request, int32_t choice);
  void drain();
  ReplicaStats stats() const;

 private:
  struct Cancel {
    RequestId request;
    int32_t choice;
  };
  struct Submit {
    GenerateRequest request;
    int64_t at_ns;
    int64_t tokens;  // of service
  };
  using Command = std::variant<Submit, Cancel>;

  Status check(const GenerateRequest& request) const;
  void run();
  // Takes what came in; waits for it while there is nothing else to do. False when the loop must end.
  bool drain_inbox();
  void take(Command& command);
  // Plans and hands over as many tickets as there may be in flight.
  void schedule_and_execute();
  // Tells the sink which requests the plan takes up, before they can do any harm.
  void announce_starts();
  void advance();
  void publish();
  // Under mutex_: what waits, and what there is for it.
  QueueState queue_state() const;
  void observe_service();

  StepExecutor& executor_;
  Scheduler scheduler_;  // the loop's thread only; check_fits() from any
  const int64_t vocab_size_;
  const QueueLimits limits_;

  mutable std::mutex mutex_;  // guards the next block
  std::condition_variable wake_;
  std::vector<Command> inbox_;
  size_t inbox_requests_ = 0;
  size_t taken_requests_ = 0;    // out of the inbox, in a step that has not ended
  size_t waiting_requests_ = 0;  // in the scheduler, after its last step
  int64_t inbox_tokens_ = 0;     // of service, theirs
  int64_t taken_tokens_ = 0;
  int64_t free_slots_;
  OutputEstimate outputs_;
  ServiceRate rate_;
  ReplicaStats stats_;
  bool draining_ = false;
  bool stop_ = false;

  std::mutex sink_mutex_;  // held during on_frame()
  FrameSink* sink_ = nullptr;

  std::vector<Command> commands_;
  StepPlan plan_;
  StepResult result_;
  StepFrame frame_;
  bool idle_ = true;  // the last step found nothing to run
  std::vector<RequestId> started_;
  std::atomic<int64_t> step_began_ns_{0};  // of the step in progress; 0: none
  int64_t observed_ns_ = 0;
  int64_t observed_tokens_ = 0;  // Scheduler::served_tokens() then

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace gantry

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
#include "sched/admission_gate.h"
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
  // False when the executor has failed: everything has ended then, and the loop ends.
  bool advance();
  void publish();

  StepExecutor& executor_;
  Scheduler scheduler_;  // the loop's thread only; check_fits() from any
  const int64_t vocab_size_;

  mutable std::mutex mutex_;  // guards the next block
  std::condition_variable wake_;
  std::vector<Command> inbox_;
  AdmissionGate gate_;
  ReplicaStats stats_;
  bool draining_ = false;
  bool stop_ = false;
  bool failed_ = false;  // the executor

  std::mutex sink_mutex_;  // held during on_frame()
  FrameSink* sink_ = nullptr;

  std::vector<Command> commands_;
  StepPlan plan_;
  StepResult result_;
  StepFrame frame_;
  bool idle_ = true;  // the last step found nothing to run
  std::vector<RequestId> started_;
  std::atomic<int64_t> step_began_ns_{0};  // of the step in progress; 0: none

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace gantry

// A replica at the end of a socket: what a worker process is. Speaks protocol/replica.proto with the front's
// RemoteReplica at the other end.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "base/status.h"
#include "protocol/replica_client.h"
#include "protocol/replica_codec.h"

namespace gantry {

class ReplicaService : public FrameSink {
 public:
  // From now on the front gets a sign of life ten times a second. Takes over the socket (a stream socket).
  explicit ReplicaService(int socket);
  ~ReplicaService() override;
  ReplicaService(const ReplicaService&) = delete;
  ReplicaService& operator=(const ReplicaService&) = delete;

  // While the replica is being made.
  void loading(uint64_t done, uint64_t total);
  // It could not be made: the front's reason for its users to know.
  void failed(const Status& status);
  // Says that the replica is ready, and serves it until the front closes its end (kOk). kDataLoss if the front
  // sends what it must not, kUnavailable if the socket fails.
  Status serve(ReplicaClient& replica);

  // As FrameSink. Waits while the front does not read.
  void on_frame(StepFrame&& frame) override;
  void on_started(std::span<const RequestId> requests) override;

 private:
  void send(const FromReplica& message);
  void give_signs_of_life();
  Status take(std::string_view payload, ReplicaClient& replica);

  const int socket_;
  std::mutex send_mutex_;
  std::string out_;      // under send_mutex_
  bool closed_ = false;  // under send_mutex_: the front has gone

  std::mutex mutex_;
  std::condition_variable wake_;
  ReplicaClient* replica_ = nullptr;  // under mutex_
  bool stop_ = false;                 // under mutex_
  std::thread signs_of_life_;
};

}  // namespace gantry

// The messages of replica.proto as the types that the rest of the program uses. What comes from a peer is checked
// field by field: a decoded message can be acted on, and an error (kDataLoss) names the field at fault.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "protocol/replica_client.h"

namespace gantry {

struct CancelChoice {
  RequestId request;
  int32_t choice = -1;  // all
};
using ToReplica = std::variant<GenerateRequest, CancelChoice>;

struct ReplicaLoading {
  uint64_t done = 0;
  uint64_t total = 0;
};
struct ReplicaFailed {
  Status status;
};
struct RefusedRequest {
  RequestId request;
  uint32_t epoch = 0;
  Status status;
};
struct StartedRequests {
  std::vector<RequestId> requests;
};
// ReplicaInfo: it is ready.
using FromReplica = std::variant<ReplicaLoading, ReplicaInfo, ReplicaFailed, StepFrame, RefusedRequest,
                                 StartedRequests, ReplicaStats>;

// Payloads of one frame each (protocol/frame_stream.h). Deadlines and times of events are taken relative to now.
std::string encode(const ToReplica& message);
std::string encode(const FromReplica& message);

// A request alone, where another message carries it.
std::string encode_request(const GenerateRequest& request);
Result<GenerateRequest> decode_request(std::string_view bytes);

// The request may still be one that submit() refuses: parameters out of range, ids outside of the vocabulary.
Result<ToReplica> decode_to_replica(std::string_view payload);
// vocab_size: of the ReplicaInfo that came before; 0 if none did, and then no tokens may come.
Result<FromReplica> decode_from_replica(std::string_view payload, int64_t vocab_size);

}  // namespace gantry

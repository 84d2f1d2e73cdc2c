// What rank 0 of a replica and its other ranks tell each other, beside what they exchange within a step.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "kernels/ops/packed_weight.h"
#include "model/parallel_layout.h"
#include "protocol/frame_stream.h"
#include "protocol/replica_client.h"
#include "tensor/dtype.h"

namespace gantry {

enum class RankMessage : uint8_t {
  kSetup,    // to the rank, first: RankSetup
  kStarted,  // from it: RankStarted; it runs and is about to join the groups
  kLoaded,   // from it: RankLoaded
  kFailed,   // from it, last: RankFailure
  kBegin,    // to it: RankBegin; plans follow
  kPlan,     // to it: encode_plan()
  kResult,   // from the rank that samples: encode_result()
  kPing,     // to it; a sign of life is due
  kPong,
  kPeers,  // to it, if it listens: RankPeers
};

struct RankSetup {
  std::string model;        // folder or file
  std::string load_format;  // as of --load-format
  std::string backend;
  std::string log_level;
  ParallelSizes sizes;
  int32_t rank = 0;
  int32_t threads = 1;
  Compute compute = Compute::kAuto;
  DType kv_dtype = DType::kF16;
  int32_t rows_max = 0;       // of a plan
  int32_t pass_rows_max = 0;  // of a pass of the model: the draft module takes more
  int32_t logit_rows_max = 0;
  int32_t context_max = 0;
  int32_t slots = 0;
  int32_t drafts = 0;
  // The ranks with which this one shares memory: a run of whole stages, or this one alone.
  int32_t memory_first = 0;
  int32_t memory_ranks = 1;
  // Where this one listens for others, and the secret of the group: empty if it shares memory with all.
  std::string address{};
  std::string group_secret{};
};
// What it listens on; 0: nothing.
struct RankStarted {
  uint16_t tensor_port = 0;
  uint16_t all_port = 0;
};
// By rank.
struct RankPeers {
  struct Peer {
    std::string address;
    RankStarted ports;
  };
  std::vector<Peer> ranks;
};
struct RankLoaded {
  uint64_t kv_block_bytes = 0;
  ReplicaRank process;
};
// This process as a rank.
ReplicaRank this_process(int32_t rank);
struct RankBegin {
  int32_t kv_blocks = 0;
  int32_t max_model_len = 0;
};
struct RankFailure {
  Status status;
  bool by_peer = false;  // what a group says of another rank: not the cause
};

// kDataLoss unless the bytes are one whole message with values in range.
std::string encode(const RankSetup& setup);
std::string encode(const RankStarted& started);
std::string encode(const RankPeers& peers);
std::string encode(const RankLoaded& loaded);
std::string encode(const RankBegin& begin);
std::string encode(const RankFailure& failure);
Result<RankSetup> decode_setup(std::string_view bytes);
Result<RankStarted> decode_started(std::string_view bytes);
Result<RankPeers> decode_peers(std::string_view bytes);
Result<RankLoaded> decode_loaded(std::string_view bytes);
Result<RankBegin> decode_begin(std::string_view bytes);
Result<RankFailure> decode_failure(std::string_view bytes);

// One end of the socket between two ranks. The descriptor stays the caller's.
class RankLink {
 public:
  explicit RankLink(int socket) : socket_(socket) {}

  // Waits while the peer has not taken what was sent before. kUnavailable: it has gone. Thread-safe.
  Status send(RankMessage message, std::string_view payload = {});
  // False where that would wait.
  bool try_send(RankMessage message);

  // Reads what has come, without waiting. False at the stream's end. One thread.
  Result<bool> receive();
  struct Received {
    RankMessage message;
    std::string_view payload;  // until the next receive()
  };
  Result<std::optional<Received>> next();

 private:
  Status write(std::string_view bytes);

  int socket_;
  std::mutex send_mutex_;
  FrameSplitter splitter_;
};

}  // namespace gantry

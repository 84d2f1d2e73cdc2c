// The one way from the front to a model: a replica takes requests and sends frames of tokens. In-process for
// one CPU rank, over a stream for worker groups; the front cannot tell which.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "protocol/sampling_params.h"

namespace gantry {

struct GenerateRequest {
  RequestId id;
  uint32_t epoch = 0;           // of the replica group this is submitted to; frames carry it back
  std::vector<TokenId> prompt;  // 1 .. max_model_len - 1 ids
  // Resubmission only, else empty. Per choice: the tokens committed already, and whether it takes no more.
  std::vector<std::vector<TokenId>> emitted;
  std::vector<bool> finished;
  SamplingParams params;
  std::string cache_salt;   // tenant or salt: prefix blocks are shared only under the same one
  std::string tenant;       // who is charged: tenants share the replica fairly
  int32_t priority = 0;     // lower runs first
  int64_t deadline_ns = 0;  // monotonic; 0 is none
  // Taken on before (a replica died, or was being started again): no queue is too full for it.
  bool admitted = false;
};

enum class FinishReason : uint8_t { kNone, kStop, kLength, kCancelled, kError };

struct TokenLogprob {
  TokenId id;
  float logprob;
};

// One token of one choice, or its end, or both. A choice that reaches max_tokens ends with its last token
// (kLength). An end token ends it in an event with token -1 and the next index (kStop); so do failures
// (kError) and what the replica gives up itself (kCancelled: the deadline passed, the replica is being
// destroyed).
struct TokenEvent {
  RequestId request;
  uint32_t epoch = 0;
  int32_t choice = 0;
  int32_t index = 0;   // of the generated token; prompt logprobs use event.prompt_position instead
  TokenId token = -1;  // -1 in an event that only finishes
  FinishReason finish = FinishReason::kNone;
  TokenId stop_token = -1;        // with kStop: the end token (it is not part of the output text)
  std::string error;              // with kError and kCancelled: safe to show
  float logprob = 0;              // log-softmax of the raw logits (before temperature and penalties)
  std::vector<TokenLogprob> top;  // best first
  int32_t accepted_drafts = 0;    // 1: a draft had foreseen this token
  int32_t rejected_drafts = 0;    // verified in the step that gave this token, its first, and not accepted
  // In the first event of a choice:
  int32_t cached_prompt_tokens = 0;
  int64_t queue_ns = 0;    // from submit() to the step that took it up
  int64_t prefill_ns = 0;  // from there to its first token
  // In the last event of a choice:
  int64_t decode_ns = 0;  // from its first token to its last
};

struct PromptLogprobs {  // once per request, before its first token, if asked for
  RequestId request;
  uint32_t epoch = 0;
  std::vector<TokenLogprob> tokens;  // [prompt length - 1]: position 1 onward
  std::vector<std::vector<TokenLogprob>> top;
};

// All that one engine step produced, in one message.
struct StepFrame {
  std::vector<PromptLogprobs> prompts;
  std::vector<TokenEvent> tokens;
};

inline constexpr int32_t kDraftsMax = 3;  // speculative tokens per step of a sequence

struct ReplicaStats {
  int32_t running = 0;  // sequences in the batch
  int32_t waiting = 0;
  int64_t kv_blocks_used = 0;
  int64_t kv_blocks_total = 0;
  int64_t prompt_tokens = 0;  // counters since start
  int64_t generated_tokens = 0;
  int64_t steps = 0;
  int64_t prefix_queries = 0;  // prompt tokens looked up in the prefix cache, and those found
  int64_t prefix_hits = 0;
  int64_t preemptions = 0;
  int64_t drafted_steps = 0;                             // of one sequence, with drafts to verify
  int64_t drafts = 0;                                    // verified
  std::array<int64_t, kDraftsMax> accepted_drafts = {};  // by place after the last known token
  int64_t waiting_tokens = 0;   // of service that waits: prompts, and expected outputs by their weight
  double queue_wait_s = 0;      // what a request that came now would wait, as far as is known
  int64_t last_token_ns = 0;    // monotonic time of the last generated token; 0 before the first
  int64_t step_running_ns = 0;  // for how long the step in progress has; 0 between steps
  bool failed =
      false;  // of a replica in this process: a rank was lost, and with it all (of another, on_lost() tells)
};

// Adds what `stats` has counted since its start; what describes the moment stays as it is.
inline void add_counters(ReplicaStats& sum, const ReplicaStats& stats) {
  sum.prompt_tokens += stats.prompt_tokens;
  sum.generated_tokens += stats.generated_tokens;
  sum.steps += stats.steps;
  sum.prefix_queries += stats.prefix_queries;
  sum.prefix_hits += stats.prefix_hits;
  sum.preemptions += stats.preemptions;
  sum.drafted_steps += stats.drafted_steps;
  sum.drafts += stats.drafts;
  for (size_t i = 0; i < sum.accepted_drafts.size(); ++i) sum.accepted_drafts[i] += stats.accepted_drafts[i];
}

// A process of a replica.
struct ReplicaRank {
  int32_t rank = 0;
  std::string host;
  int64_t pid = 0;
};

struct ReplicaInfo {
  std::string model_id;
  int32_t max_model_len = 0;  // prompt and output together
  int64_t vocab_size = 0;
  std::vector<ReplicaRank> ranks{};  // in order; of a worker that is started again, those of its first start
};

// Called on one thread of the replica; must not block.
class FrameSink {
 public:
  virtual ~FrameSink() = default;
  // Once per engine step. The sink may move from the frame.
  virtual void on_frame(StepFrame&& frame) = 0;
  // The step that begins takes these requests up, for the first time or again after a preemption.
  virtual void on_started(std::span<const RequestId> /*requests*/) {}

  // Only of a replica in a process of its own. submit() took the request, and the replica does not: submit()'s errors.
  virtual void on_refused(RequestId /*request*/, uint32_t /*epoch*/, const Status& /*status*/) {}
  // It knows no request any more; what is submitted before on_ready() is lost. kInternal: it crashed, a step of it hung, or
  // it sent what it must not; kUnavailable: it was killed or stopped, perhaps from outside; kCancelled: it is restarted on
  // purpose.
  virtual void on_lost(const Status& /*cause*/) {}
  // It takes requests again.
  virtual void on_ready() {}
  // Some twenty times a second, for what depends on time.
  virtual void on_tick() {}
};

// Thread-safe. submit() and cancel() never block on the engine.
class ReplicaClient {
 public:
  virtual ~ReplicaClient() = default;
  // Before the first submit. The sink outlives the client or is replaced by null (no call is in progress on
  // return).
  virtual void set_sink(FrameSink* sink) = 0;
  // Checks the prompt and validate(params). kResourceExhausted if the queue is full (stats().queue_wait_s says when
  // to come again), kInvalidArgument if it can never fit, kUnavailable while draining. These may come later, through
  // FrameSink::on_refused().
  virtual Status submit(GenerateRequest request) = 0;
  // Frees the request's blocks at the next step; choice -1 is all of them. Unknown ids are ignored. No
  // further event of a cancelled choice is promised, and none is needed.
  virtual void cancel(RequestId request, int32_t choice = -1) = 0;
  // From now on submit() gives kUnavailable; what was submitted goes on. stats() tells when all is done.
  virtual void drain() = 0;
  virtual ReplicaStats stats() const = 0;
  virtual const ReplicaInfo& info() const = 0;
};

}  // namespace gantry

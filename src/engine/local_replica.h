// A replica whose rank 0 is in this process: one engine loop on its own thread behind ReplicaClient.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/fair_mutex.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "formats/weight_source.h"
#include "kernels/ops/backend.h"
#include "model/model.h"
#include "model/parallel_layout.h"
#include "protocol/replica_client.h"
#include "runtime/group_hosts.h"
#include "sched/admission.h"

namespace gantry {

// Ranks beyond the first, processes that this one or another host's agent starts.
struct FollowerOptions {
  std::vector<std::string> command;  // absolute path and arguments of a process that calls run_follower()
  std::string load_format;           // for the OpenSource there
  std::string log_level = "info";
  GroupHosts hosts{};
  // A rank that is lost ends this process: its front starts it again, and submits its streams again.
  bool end_process = false;
};

struct ReplicaOptions {
  std::string model_id;
  const Backend* backend = nullptr;
  ThreadPool* pool = nullptr;      // shared by all replicas of the process; they take turns by step
  FairMutex* pool_turn = nullptr;  // held during a step; shared with the pool
  Compute compute = Compute::kAuto;
  ParallelSizes ranks{};  // of one replica; each gets as many threads as `pool` has
  FollowerOptions followers{};
  int32_t max_model_len = 0;  // 0: the checkpoint's, at most what the KV cache holds
  int32_t max_num_seqs = 64;
  int32_t max_num_batched_tokens = 2048;
  int32_t num_speculative_tokens = 0;  // drafts per step of a sequence, 0 .. kDraftsMax
  uint64_t kv_cache_bytes = 0;         // of each rank; 0: by memory_utilization
  // The share of the machine's (or cgroup's) memory that the process may use; the KV cache gets what is left
  // of it after loading. 0: min(max_num_seqs x max_model_len, 512 MiB).
  double memory_utilization = 0;
  bool prefix_caching = true;  // requests of one cache_salt share the blocks of equal prefixes
  QueueLimits queue{};         // what submit() takes
  // Prompt tokens of a step that also decodes; those late in a long context count for more. 0: no limit.
  int32_t max_prefill_beside_decodes = 0;
  std::function<void(uint64_t done, uint64_t total)> on_progress;  // of rank 0
};

// Loads the weights and starts the loop. The source outlives the replica. Destroying it cancels what runs.
// Errors: load_model()'s, of a follower with its rank; an option out of range (param() names it); a KV cache that cannot hold one request
// of max_model_len, saying what would fit (on the CPU before any weight is read).
Result<std::unique_ptr<ReplicaClient>> start_local_replica(const WeightSource& source,
                                                           ReplicaOptions options);
// The same with a model at hand, loaded for these options: rows_max and logit_rows_max as below, context_max of at
// least max_model_len, drafts with num_speculative_tokens above 0.
Result<std::unique_ptr<ReplicaClient>> start_local_replica(std::unique_ptr<Model> model,
                                                           ReplicaOptions options);
// Memory of a replica with these options, found without reading weights: what is resident once its cache is full.
// Tokenizer, sockets and the program itself come on top.
struct ReplicaMemory {
  uint64_t weights = 0;      // packed
  uint64_t activations = 0;  // buffers of forward(), scratch of the ops
  uint64_t kv_cache = 0;
  uint64_t logits = 0;
  int32_t kv_blocks = 0;
  int32_t max_model_len = 0;
  uint64_t step_bytes = 0;  // of weights that a step with every expert hit reads
  uint64_t total() const { return weights + activations + kv_cache + logits; }
};
Result<ReplicaMemory> plan_replica_memory(const WeightSource& source, const ReplicaOptions& options);

// Rows of one forward pass: max_num_batched_tokens; the draft module takes one more for each new token.
int32_t rows_of(const ReplicaOptions& options);
// Rows of logits that one step keeps: 1 + num_speculative_tokens for each sequence, and some more for prompt
// logprobs.
int32_t logit_rows_of(const ReplicaOptions& options);

}  // namespace gantry

// A replica in this process: one engine loop on its own thread behind ReplicaClient.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "base/status.h"
#include "base/thread_pool.h"
#include "formats/weight_source.h"
#include "kernels/ops/backend.h"
#include "protocol/replica_client.h"

namespace gantry {

struct ReplicaOptions {
  std::string model_id;
  const Backend* backend = nullptr;
  ThreadPool* pool = nullptr;       // shared by all replicas of the process; they take turns by step
  std::mutex* pool_turn = nullptr;  // held during a step; shared with the pool
  Compute compute = Compute::kAuto;
  int32_t max_model_len = 0;  // 0: the checkpoint's, at most what the KV cache holds
  int32_t max_num_seqs = 64;
  int32_t max_num_batched_tokens = 2048;
  uint64_t kv_cache_bytes = 0;  // 0: min(max_num_seqs x max_model_len, 512 MiB)
  std::function<void(uint64_t done, uint64_t total)> on_progress;
};

// Loads the weights and starts the loop. The source outlives the replica. Destroying it cancels what runs.
Result<std::unique_ptr<ReplicaClient>> start_local_replica(const WeightSource& source,
                                                           ReplicaOptions options);

}  // namespace gantry

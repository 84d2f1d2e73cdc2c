// Everything that one served model consists of, in the order it is built and destroyed.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/fair_mutex.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "chat/chat_template.h"
#include "cli/model_name.h"
#include "cli/serve_options.h"
#include "control/front.h"
#include "control/remote_replica.h"
#include "formats/weight_source.h"
#include "kernels/ops/backend.h"
#include "protocol/replica_client.h"
#include "server/model_registry.h"
#include "text/tokenizer.h"

namespace gantry::cli {

// Opens weights as --load-format says.
Result<std::unique_ptr<WeightSource>> open_source(const std::string& path, const std::string& load_format);

// What the models of one process share: they take turns on the pool by step. Nothing where workers compute.
struct ComputeResources {
  const Backend* backend = nullptr;
  ThreadPool* pool = nullptr;
  FairMutex* pool_turn = nullptr;
  bool own_process = false;  // which may end with the replica
};

// Cores that this process may run on.
int usable_cores();
// --threads, or the cores, shared by the ranks of a replica.
int threads_per_rank(const ServeOptions& options);

using OnProgress = std::function<void(uint64_t done_bytes, uint64_t total_bytes)>;

// Loads the weights and starts the replica in this process. The source and the resources outlive it. kv_cache_bytes 0:
// the default.
Result<std::unique_ptr<ReplicaClient>> start_replica(const WeightSource& source, const std::string& model_id,
                                                     const ServeOptions& options, uint64_t kv_cache_bytes,
                                                     const ComputeResources& resources,
                                                     const OnProgress& on_progress);

class ModelHost {
 public:
  // Opens, checks and loads the model and starts its replicas, here or in workers. The resources outlive it.
  // kv_cache_bytes 0: the default.
  static Result<std::unique_ptr<ModelHost>> load(const ResolvedModel& model, const ServeOptions& options,
                                                 uint64_t kv_cache_bytes, const ComputeResources& resources,
                                                 const OnProgress& on_progress);
  // Restarts the workers one after the other; kInvalidArgument where there are none. Errors are
  // RemoteReplica::restart()'s, and the workers after that one are left as they are.
  Status restart_workers(const std::atomic<bool>& stop);
  // What the server serves; refers to this host.
  ServedModel served() const;

 private:
  ModelHost() = default;

  Status start_workers(const ResolvedModel& model, const ServeOptions& options, uint64_t kv_cache_bytes,
                       const OnProgress& on_progress);
  std::vector<ReplicaHealth> health() const;
  ReplicaHealth worker_health(size_t replica) const;

  std::string id_;
  std::unique_ptr<WeightSource> source_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> chat_template_;
  std::unique_ptr<ReplicaClient> local_;
  int64_t local_since_ns_ = 0;
  int ranks_ = 1;                                        // of each replica
  std::vector<std::unique_ptr<RemoteReplica>> workers_;  // instead of local_
  std::unique_ptr<Front> front_;
};

}  // namespace gantry::cli

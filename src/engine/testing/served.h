// A replica for tests, and what it answered to requests under some conditions.
#pragma once

#include <memory>
#include <vector>

#include "engine/local_replica.h"
#include "engine/testing/random_requests.h"

namespace gantry {

struct Conditions {
  int32_t drafts = 0;
  int32_t batched_tokens = 512;
  int32_t max_prefill_beside_decodes = 0;
  bool prefix_caching = false;
  uint64_t kv_cache_bytes = 0;  // 0: ample
  int32_t max_model_len = 0;    // 0: the checkpoint's
  bool one_by_one = false;
  int threads = 1;
};

struct Served {
  Served(const WeightSource& source, const Backend* backend, const Conditions& conditions,
         const std::vector<GenerateRequest>& requests)
      : pool(conditions.threads) {
    ReplicaOptions options;
    options.model_id = "random";
    options.backend = backend;
    options.pool = &pool;
    options.max_model_len = conditions.max_model_len;
    options.max_num_seqs = 16;
    options.max_num_batched_tokens = conditions.batched_tokens;
    options.num_speculative_tokens = conditions.drafts;
    options.kv_cache_bytes = conditions.kv_cache_bytes;
    options.prefix_caching = conditions.prefix_caching;
    options.max_prefill_beside_decodes = conditions.max_prefill_beside_decodes;
    client = start_local_replica(source, options).value();
    client->set_sink(&collector);
    serve(*client, collector, requests, conditions.one_by_one);
    stats = client->stats();
    client->set_sink(nullptr);
  }

  ThreadPool pool;
  FrameCollector collector;
  std::unique_ptr<ReplicaClient> client;
  ReplicaStats stats;
};

}  // namespace gantry

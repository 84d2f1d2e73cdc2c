// The flags of `gantry serve`, under vllm's names.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "base/limits.h"
#include "base/status.h"
#include "cli/model_name.h"
#include "kernels/ops/packed_weight.h"

namespace gantry::cli {

struct ServeOptions {
  std::vector<std::string> models{kInstalledModel};
  std::vector<std::string> served_model_names;
  std::string revision;  // of models of the hub that are named without one
  std::string host = "127.0.0.1";
  int port = 8000;
  std::vector<std::string> api_keys;
  std::string dtype = "auto";
  bool fp8_activations = false;
  std::string load_format = "auto";
  std::string device = "auto";
  int threads = 0;                      // 0: one per core that the process may use
  std::string worker_process = "auto";  // on: replicas in processes of their own; auto: if there are several
  int data_parallel_size = 1;           // replicas of each model
  double step_timeout_s = 300;          // of a worker
  int tensor_parallel_size = 1;
  int pipeline_parallel_size = 1;
  bool expert_parallel = false;
  std::string placement = "local";      // env: on the hosts that the environment names
  std::string secret_file;              // of what the hosts share; empty: GANTRY_SECRET
  int host_wait_s = 600;                // for the other hosts, or for host 0
  int host_lease_s = 60;                // of a host's agent, once host 0 is gone
  std::string rank_transport = "auto";  // tcp: within a host too
  int max_num_seqs = 64;
  int max_model_len = 0;  // 0: the checkpoint's
  int max_num_batched_tokens = 2048;
  int num_speculative_tokens = 0;
  int max_queued_requests = static_cast<int>(limits::kWaitingRequestsMax);
  int64_t max_queued_tokens = 0;  // 0: no limit
  double max_queue_wait_s = 10;   // 0: no limit
  double max_prefill_wait_s = 0;  // 0: no limit
  int max_prefill_beside_decodes = 256;
  std::string kv_cache_memory;        // bytes, with K, M or G (powers of 1024); empty: the default
  double gpu_memory_utilization = 0;  // 0: not by share
  std::string metrics_compat = "none";
  std::string log_level = "info";
  double shutdown_timeout_s = 20;
};

// Add flags to `app`; `options` outlives it. The engine's: models, device, batch, KV cache. serve's are more.
void add_engine_flags(CLI::App& app, ServeOptions& options);
void add_serve_flags(CLI::App& app, ServeOptions& options);
// Ranks of one replica.
inline int ranks_of(const ServeOptions& options) {
  return options.tensor_parallel_size * options.pipeline_parallel_size;
}
// Ranges, and combinations that are not supported; the error names the flag and what would be right.
Status validate(const ServeOptions& options);
// How weights are computed with.
Compute compute_of(const ServeOptions& options);
bool uses_workers(const ServeOptions& options);
// The engine's flags with these values: what add_engine_flags() reads back as they are, but for the models.
std::vector<std::string> engine_arguments(const ServeOptions& options);
// "512M" → bytes. kInvalidArgument for anything else than digits with an optional K, M or G.
Result<uint64_t> parse_bytes(const std::string& text);

}  // namespace gantry::cli

#include "cli/model_host.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/clock.h"
#include "base/log.h"
#include "cli/hosts.h"
#include "engine/local_replica.h"
#include "model/dummy_source.h"

namespace gantry::cli {
namespace {

template <typename T>
std::optional<T> number_at(const nlohmann::json& object, const char* key) {
  const auto it = object.find(key);
  if (it == object.end() || !it->is_number()) return std::nullopt;
  return it->get<T>();
}

SamplingDefaults sampling_defaults(const nlohmann::json& generation_config) {
  if (!generation_config.is_object()) return {};
  SamplingDefaults defaults;
  // transformers ignores the other keys unless do_sample is set, and so do servers built on it.
  defaults.temperature = number_at<float>(generation_config, "temperature");
  defaults.top_p = number_at<float>(generation_config, "top_p");
  defaults.top_k = number_at<int32_t>(generation_config, "top_k");
  defaults.min_p = number_at<float>(generation_config, "min_p");
  defaults.repetition_penalty = number_at<float>(generation_config, "repetition_penalty");
  return defaults;
}

// What the flags ask of the weights and the device.
Status check_compute(const WeightSource& source, const ServeOptions& options, const Backend& backend) {
  bool fp8 = false;
  for (const WeightInfo& info : source.weights()) {
    if (options.dtype == "bfloat16" && is_quantized(info.view.dtype)) {
      return unimplemented(
          source.path() + ": weights of " + std::string(to_string(info.view.dtype)) +
              " are computed with int8 activations or in float32: --dtype must be auto or float32",
          "--dtype");
    }
    fp8 |= info.view.dtype == DType::kF8E4M3;
  }
  if (!options.fp8_activations) return {};
  if (!fp8) {
    return invalid_argument(source.path() + ": has no FP8 weights, which --fp8-activations is about",
                            "--fp8-activations");
  }
  if (backend.memory != nullptr) {
    return unimplemented(
        "--fp8-activations is for the CPU: a GPU rounds the activations of wide FP8 weights without it",
        "--fp8-activations");
  }
  return {};
}

}  // namespace

int usable_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

Result<std::unique_ptr<WeightSource>> open_source(const std::string& path, const std::string& load_format) {
  if (load_format == "dummy") return open_dummy_weights(path);
  std::error_code error;
  const bool is_folder = std::filesystem::is_directory(path, error);
  if (load_format == "safetensors" && !is_folder) {
    return invalid_argument(path +
                            ": --load-format safetensors needs a folder with config.json and safetensors");
  }
  if (load_format == "gguf" && is_folder) {
    return invalid_argument(path + ": is a folder; --load-format gguf needs a .gguf file");
  }
  return open_weights(path);
}

Result<std::unique_ptr<ReplicaClient>> start_replica(const WeightSource& source, const std::string& model_id,
                                                     const ServeOptions& options, uint64_t kv_cache_bytes,
                                                     const ComputeResources& resources,
                                                     const OnProgress& on_progress) {
  GANTRY_RETURN_IF_ERROR(check_compute(source, options, *resources.backend));
  GANTRY_ASSIGN_OR_RETURN(const GroupHosts hosts, group_hosts(options));
  ReplicaOptions replica{
      .model_id = model_id,
      .backend = resources.backend,
      .pool = resources.pool,
      .pool_turn = resources.pool_turn,
      .compute = compute_of(options),
      .ranks = {options.tensor_parallel_size, options.pipeline_parallel_size, options.expert_parallel},
      .followers = {.command = {"/proc/self/exe", "rank", "--parent=" + std::to_string(getpid())},
                    .load_format = options.load_format,
                    .log_level = options.log_level,
                    .hosts = hosts,
                    .end_process = resources.own_process},
      .max_model_len = options.max_model_len,
      .max_num_seqs = options.max_num_seqs,
      .max_num_batched_tokens = options.max_num_batched_tokens,
      .num_speculative_tokens = options.num_speculative_tokens,
      .kv_cache_bytes = kv_cache_bytes,
      .memory_utilization = options.gpu_memory_utilization,
      .queue = {.requests = options.max_queued_requests,
                .tokens = options.max_queued_tokens,
                .wait_s = options.max_queue_wait_s,
                .prefill_wait_s = options.max_prefill_wait_s},
      .max_prefill_beside_decodes = options.max_prefill_beside_decodes,
      .on_progress = on_progress,
  };
  return start_local_replica(source, std::move(replica));
}

int threads_per_rank(const ServeOptions& options) {
  return std::max(1, (options.threads > 0 ? options.threads : usable_cores()) / ranks_of(options));
}

Result<std::unique_ptr<ModelHost>> ModelHost::load(const ResolvedModel& model, const ServeOptions& options,
                                                   uint64_t kv_cache_bytes, const ComputeResources& resources,
                                                   const OnProgress& on_progress) {
  std::unique_ptr<ModelHost> host(new ModelHost());
  host->id_ = model.id;
  GANTRY_ASSIGN_OR_RETURN(host->source_, open_source(model.path, options.load_format));
  if (const VocabSpec* vocab = host->source_->vocab()) {
    GANTRY_ASSIGN_OR_RETURN(host->tokenizer_, Tokenizer::create(*vocab));
    if (!vocab->chat_template.empty()) {
      auto parsed = ChatTemplate::parse(vocab->chat_template);
      if (parsed.ok()) {
        host->chat_template_ = std::move(parsed).value();
      } else {
        log::warn("{}: chat is off, the chat template cannot be used: {}", model.id,
                  parsed.status().message());
      }
    }
  } else {
    log::warn("{}: no tokenizer beside the weights: prompts and answers are token ids", model.id);
  }
  host->ranks_ = ranks_of(options);
  std::vector<ReplicaClient*> replicas;
  if (uses_workers(options)) {
    GANTRY_RETURN_IF_ERROR(host->start_workers(model, options, kv_cache_bytes, on_progress));
    for (const auto& worker : host->workers_) replicas.push_back(worker.get());
  } else {
    GANTRY_ASSIGN_OR_RETURN(host->local_, start_replica(*host->source_, model.id, options, kv_cache_bytes,
                                                        resources, on_progress));
    host->local_since_ns_ = monotonic_ns();
    replicas.push_back(host->local_.get());
  }
  host->front_ = std::make_unique<Front>(std::move(replicas));
  return host;
}

Status ModelHost::start_workers(const ResolvedModel& model, const ServeOptions& options,
                                uint64_t kv_cache_bytes, const OnProgress& on_progress) {
  ServeOptions each = options;
  const int replicas = options.data_parallel_size;
  if (each.threads == 0) each.threads = std::max(1, usable_cores() / replicas);
  const uint64_t kv_share = kv_cache_bytes / static_cast<uint64_t>(replicas);
  each.kv_cache_memory = kv_share > 0 ? std::to_string(kv_share) : "";
  std::vector<std::string> command{"/proc/self/exe",
                                   "worker",
                                   "--model=" + model.path,
                                   "--name=" + model.id,
                                   "--front=" + std::to_string(getpid()),
                                   "--log-level=" + options.log_level};
  const size_t shares = options.models.size() * static_cast<size_t>(replicas);
  command.push_back("--kv-shares=" + std::to_string(shares));
  for (std::string& argument : engine_arguments(each)) command.push_back(std::move(argument));
  for (int i = 0; i < replicas; ++i) {
    RemoteReplicaOptions remote;
    remote.name = model.id + "-" + std::to_string(i);
    remote.command = command;
    remote.command.push_back("--replica=" + std::to_string(i));
    remote.step_s = options.step_timeout_s;
    if (i == 0) remote.on_progress = on_progress;
    GANTRY_ASSIGN_OR_RETURN(workers_.emplace_back(), RemoteReplica::start(std::move(remote)));
  }
  return {};
}

Status ModelHost::restart_workers(const std::atomic<bool>& stop) {
  if (workers_.empty()) {
    return invalid_argument(id_ +
                            " runs in the server's process: --worker-process on is needed to restart it");
  }
  for (const auto& worker : workers_) GANTRY_RETURN_IF_ERROR(worker->restart(stop));
  return {};
}

ServedModel ModelHost::served() const {
  ServedModel served;
  served.id = id_;
  served.front = front_.get();
  served.tokenizer = tokenizer_.get();
  served.chat_template = chat_template_.get();
  served.defaults = sampling_defaults(source_->generation_config());
  served.created = unix_seconds();
  served.replicas = [this] { return health(); };
  return served;
}

std::vector<ReplicaHealth> ModelHost::health() const {
  std::vector<ReplicaHealth> all;
  for (size_t i = 0; i < workers_.size(); ++i) all.push_back(worker_health(i));
  if (local_ == nullptr) return all;
  ReplicaHealth& local = all.emplace_back();
  local.id = id_ + "-0";
  local.state = local_->stats().failed ? "dead" : "ready";
  local.age_seconds = static_cast<double>(monotonic_ns() - local_since_ns_) * 1e-9;
  for (const ReplicaRank& rank : local_->info().ranks) {
    // The server's own process is there to say so.
    local.ranks.push_back({.rank = rank.rank,
                           .host = rank.host,
                           .pid = rank.pid,
                           .state = rank.rank == 0 ? "ready" : local.state});
  }
  return all;
}

ReplicaHealth ModelHost::worker_health(size_t replica) const {
  const RemoteReplica::State state = workers_[replica]->state();
  ReplicaHealth health{.id = id_ + "-" + std::to_string(replica),
                       .epoch = state.epoch,
                       .state = state.state,
                       .age_seconds = static_cast<double>(monotonic_ns() - state.started_ns) * 1e-9,
                       .restarts = state.epoch > 0 ? state.epoch - 1 : 0,
                       .cause = state.cause,
                       .ranks = {}};
  for (const ReplicaRank& rank : state.ranks) {
    health.ranks.push_back({.rank = rank.rank, .host = rank.host, .pid = rank.pid, .state = state.state});
  }
  // While it starts, the worker is known, and the others will be once they have loaded.
  for (int rank = static_cast<int>(health.ranks.size()); rank < ranks_; ++rank) {
    const int64_t pid = rank == 0 ? state.pid : 0;
    health.ranks.push_back(
        {.rank = rank, .host = {}, .pid = pid, .state = rank == 0 && pid == 0 ? "dead" : "starting"});
  }
  return health;
}

}  // namespace gantry::cli

#include "engine/local_replica.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "base/limits.h"
#include "base/log.h"
#include "base/system_memory.h"
#include "engine/engine_loop.h"
#include "engine/kv_sizing.h"
#include "model/model.h"
#include "runtime/device_runner.h"
#include "runtime/model_runner.h"
#include "runtime/worker_group.h"

namespace gantry {
namespace {

// Logits of this many prompt rows per step are kept for echo, beside one for each sequence.
constexpr int32_t kScoredRowsMax = 64;
// Of a GPU, unless said otherwise.
constexpr double kGpuMemoryUtilization = 0.9;

// A GPU draws tokens itself, and is given a step while it runs the one before.
bool draws_on_device(const ReplicaOptions& options) {
  return options.backend->memory != nullptr && options.backend->draw != nullptr;
}

class LocalReplica : public ReplicaClient {
 public:
  // group: null for one rank.
  LocalReplica(std::unique_ptr<WorkerGroup> group, std::unique_ptr<Model> model, std::unique_ptr<KvStore> kv,
               const ReplicaOptions& options, const SchedulerOptions& scheduling)
      : info_{options.model_id, scheduling.max_model_len, model->config().vocab,
              group ? group->processes() : std::vector{this_process(0)}},
        group_(std::move(group)),
        model_(std::move(model)),
        kv_(std::move(kv)),
        executor_(make_executor(options, scheduling)),
        loop_(*executor_, scheduling, info_.vocab_size) {
    if (group_ && options.followers.end_process) group_->end_process_on_failure();
  }

  void set_sink(FrameSink* sink) override { loop_.set_sink(sink); }
  Status submit(GenerateRequest request) override { return loop_.submit(std::move(request)); }
  void cancel(RequestId request, int32_t choice) override { loop_.cancel(request, choice); }
  void drain() override { loop_.drain(); }
  ReplicaStats stats() const override {
    ReplicaStats stats = loop_.stats();
    // A group that is idle has lost a rank before a step tells.
    if (group_ && group_->failed()) stats.failed = true;
    if (stats.failed) stats.last_token_ns = 0;
    return stats;
  }
  const ReplicaInfo& info() const override { return info_; }

 private:
  std::unique_ptr<StepExecutor> make_executor(const ReplicaOptions& options,
                                              const SchedulerOptions& scheduling) {
    if (draws_on_device(options)) {
      return std::make_unique<DeviceRunner>(*model_, *kv_, options.pool_turn,
                                            DeviceRunnerOptions{.slots = scheduling.max_num_seqs,
                                                                .rows_max = scheduling.max_num_batched_tokens,
                                                                .logit_rows_max = scheduling.logit_rows_max,
                                                                .context_max = scheduling.max_model_len});
    }
    auto runner = std::make_unique<ModelRunner>(
        *model_, *kv_, *options.pool, options.pool_turn,
        ModelRunnerOptions{.slots = scheduling.max_num_seqs,
                           .rows_max = scheduling.max_num_batched_tokens,
                           .logit_rows_max = scheduling.logit_rows_max,
                           .context_max = scheduling.max_model_len,
                           .drafts = options.ranks.pipeline == 1 ? scheduling.drafts : 0,
                           .samples = options.ranks.pipeline == 1,
                           .tensor = group_ ? group_->ranks().tensor : nullptr});
    if (group_ == nullptr) return runner;
    runner_ = std::move(runner);
    return std::make_unique<GroupExecutor>(*group_, *runner_);
  }

  ReplicaInfo info_;
  std::unique_ptr<WorkerGroup> group_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<KvStore> kv_;
  std::unique_ptr<ModelRunner> runner_;  // of a group
  std::unique_ptr<StepExecutor> executor_;
  EngineLoop loop_;
};

Status check_options(const ReplicaOptions& options) {
  GANTRY_CHECK(options.backend != nullptr && options.pool != nullptr);
  if (options.max_num_seqs < 1 || options.max_num_seqs > limits::kSequencesMax) {
    return invalid_argument(fmt::format("max_num_seqs is {}, must be between 1 and {}", options.max_num_seqs,
                                        limits::kSequencesMax),
                            "max_num_seqs");
  }
  if (options.max_num_batched_tokens < 1 || options.max_num_batched_tokens > limits::kBatchedTokensMax) {
    return invalid_argument(fmt::format("max_num_batched_tokens is {}, must be between 1 and {}",
                                        options.max_num_batched_tokens, limits::kBatchedTokensMax),
                            "max_num_batched_tokens");
  }
  if (options.num_speculative_tokens < 0 || options.num_speculative_tokens > kDraftsMax) {
    return invalid_argument(fmt::format("num_speculative_tokens is {}, must be between 0 and {}",
                                        options.num_speculative_tokens, kDraftsMax),
                            "num_speculative_tokens");
  }
  if (options.max_num_batched_tokens < 1 + options.num_speculative_tokens) {
    return invalid_argument(
        fmt::format("max_num_batched_tokens is {}, must be at least 1 + num_speculative_tokens, {}",
                    options.max_num_batched_tokens, 1 + options.num_speculative_tokens),
        "max_num_batched_tokens");
  }
  return {};
}

// The followers load while this process does.
Result<std::unique_ptr<WorkerGroup>> start_followers(const WeightSource& source,
                                                     const ReplicaOptions& options, const LoadOptions& load) {
  return WorkerGroup::start({.setup = {.model = source.path(),
                                       .load_format = options.followers.load_format,
                                       .backend = std::string(options.backend->name),
                                       .log_level = options.followers.log_level,
                                       .sizes = options.ranks,
                                       .threads = options.pool->size(),
                                       .compute = load.compute,
                                       .kv_dtype = load.kv_dtype,
                                       .rows_max = options.max_num_batched_tokens,
                                       .pass_rows_max = load.rows_max,
                                       .logit_rows_max = load.logit_rows_max,
                                       .context_max = load.context_max,
                                       .slots = options.max_num_seqs,
                                       .drafts = options.num_speculative_tokens},
                             .command = options.followers.command,
                             .hosts = options.followers.hosts});
}

Result<LoadOptions> load_options(const WeightSource& source, const ReplicaOptions& options) {
  GANTRY_ASSIGN_OR_RETURN(const ModelConfig config,
                          parse_model_config(source.config(), source.generation_config()));
  LoadOptions load;
  load.backend = options.backend;
  load.pool = options.pool;
  load.compute = options.compute;
  load.kv_dtype = options.compute == Compute::kAuto ? options.backend->kv_dtype : DType::kF32;
  load.rows_max = rows_of(options);
  load.logit_rows_max = logit_rows_of(options);
  load.context_max =
      options.max_model_len > 0 ? std::min(options.max_model_len, config.max_position) : config.max_position;
  load.slots = draws_on_device(options) ? options.max_num_seqs : 0;
  load.drafts = options.num_speculative_tokens > 0;
  load.on_progress = options.on_progress;
  return load;
}

// followers_block_bytes: the most that a block takes on another rank.
KvDemand kv_demand(const Model& model, const ReplicaOptions& options, uint64_t followers_block_bytes = 0) {
  KvDemand demand;
  demand.block_bytes = std::max<uint64_t>(
      KvStore::block_bytes(*options.backend, model.kv_layouts(), model.kv_tail()), followers_block_bytes);
  demand.max_position = model.config().max_position;
  demand.max_model_len = options.max_model_len;
  demand.max_num_seqs = options.max_num_seqs;
  demand.kv_cache_bytes = options.kv_cache_bytes;
  demand.memory_utilization = options.memory_utilization;
  if (const MemorySpace* space = options.backend->memory) {
    const MemorySpace::Usage usage = space->usage();
    demand.memory_bytes = usage.total;
    demand.memory_used_bytes = usage.used;
    // All other memory of the model is taken by now; what the driver takes for recorded steps is not.
    if (demand.memory_utilization <= 0) demand.memory_utilization = kGpuMemoryUtilization;
  } else {
    demand.memory_bytes = usable_memory_bytes() / static_cast<uint64_t>(options.ranks.ranks());
    demand.memory_used_bytes = resident_memory().now;  // activations too
  }
  return demand;
}

// The model as loading would make it, its memory untouched. Of the host: a device has no memory to reserve twice.
Result<std::unique_ptr<Model>> load_sizes(const WeightSource& source, LoadOptions load) {
  load.sizes_only = true;
  load.on_progress = nullptr;
  return load_model(source, load);
}

// size_kv_cache()'s error before weights are read, which can take an hour.
Status check_cache_fits(const WeightSource& source, const ReplicaOptions& options, LoadOptions load) {
  if (options.backend->memory != nullptr) return {};
  uint64_t block_bytes = 0;
  load.ranks.sizes = options.ranks;
  for (load.ranks.rank = options.ranks.ranks() - 1; load.ranks.rank > 0; --load.ranks.rank) {
    GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, load_sizes(source, load));
    block_bytes =
        std::max(block_bytes, KvStore::block_bytes(*options.backend, model->kv_layouts(), model->kv_tail()));
  }
  GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, load_sizes(source, load));
  KvDemand demand = kv_demand(*model, options, block_bytes);
  demand.memory_used_bytes += model->resident_weight_bytes() + model->activation_bytes();
  return size_kv_cache(demand).status();
}

Result<std::unique_ptr<ReplicaClient>> start_replica(std::unique_ptr<WorkerGroup> group,
                                                     std::unique_ptr<Model> model, ReplicaOptions options) {
  GANTRY_CHECK(options.num_speculative_tokens == 0 || options.ranks.pipeline > 1 || model->kv_tail() > 0)
      << "the model cannot draft";
  uint64_t followers_block_bytes = 0;
  if (group != nullptr) {
    GANTRY_ASSIGN_OR_RETURN(followers_block_bytes, group->wait_loaded());
  }
  const KvDemand demand = kv_demand(*model, options, followers_block_bytes);
  GANTRY_ASSIGN_OR_RETURN(const KvSize size, size_kv_cache(demand));
  GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<KvStore> kv, KvStore::create(*options.backend, model->kv_layouts(),
                                                                       size.blocks, model->kv_tail()));
  if (group != nullptr) {
    GANTRY_RETURN_IF_ERROR(group->begin({.kv_blocks = size.blocks, .max_model_len = size.max_model_len}));
  }
  log::info("{}: KV cache {} blocks of {} tokens ({:.1f} MiB), max_model_len {}", options.model_id,
            size.blocks, limits::kKvBlockTokens,
            static_cast<double>(demand.block_bytes) * size.blocks / (1 << 20), size.max_model_len);

  SchedulerOptions scheduling;
  scheduling.kv_blocks = size.blocks;
  scheduling.max_model_len = size.max_model_len;
  scheduling.max_num_seqs = options.max_num_seqs;
  scheduling.max_num_batched_tokens = options.max_num_batched_tokens;
  scheduling.logit_rows_max = logit_rows_of(options);
  scheduling.pipeline_stages = options.ranks.pipeline;
  scheduling.lookahead = draws_on_device(options);
  scheduling.drafts = options.num_speculative_tokens;
  scheduling.prefix_caching = options.prefix_caching;
  scheduling.queue = options.queue;
  // A layer has about 12 x hidden^2 weights, twice as many operations a row; attention takes 4 x hidden a token.
  scheduling.chunk = {options.max_prefill_beside_decodes, static_cast<int32_t>(6 * model->config().hidden)};
  scheduling.hash_seed = (uint64_t{std::random_device{}()} << 32) | std::random_device{}();
  return std::unique_ptr<ReplicaClient>(
      std::make_unique<LocalReplica>(std::move(group), std::move(model), std::move(kv), options, scheduling));
}

}  // namespace

int32_t rows_of(const ReplicaOptions& options) {
  const int32_t new_tokens = std::min(options.max_num_seqs, options.max_num_batched_tokens);
  return options.max_num_batched_tokens + (options.num_speculative_tokens > 0 ? new_tokens : 0);
}

int32_t logit_rows_of(const ReplicaOptions& options) {
  const int32_t sampled = options.max_num_seqs * (1 + options.num_speculative_tokens);
  return std::min(sampled, options.max_num_batched_tokens) + kScoredRowsMax;
}

Result<std::unique_ptr<ReplicaClient>> start_local_replica(const WeightSource& source,
                                                           ReplicaOptions options) {
  GANTRY_RETURN_IF_ERROR(check_options(options));
  GANTRY_ASSIGN_OR_RETURN(LoadOptions load, load_options(source, options));
  std::unique_ptr<WorkerGroup> group;
  if (options.ranks.ranks() > 1) {
    GANTRY_RETURN_IF_ERROR(check_ranks(source, *options.backend, options.ranks));
  }
  GANTRY_RETURN_IF_ERROR(check_cache_fits(source, options, load));
  if (options.ranks.ranks() > 1) {
    GANTRY_ASSIGN_OR_RETURN(group, start_followers(source, options, load));
    load.ranks = group->ranks();
  }
  GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<Model> model, load_model(source, load));
  return start_replica(std::move(group), std::move(model), std::move(options));
}

Result<ReplicaMemory> plan_replica_memory(const WeightSource& source, const ReplicaOptions& options) {
  GANTRY_RETURN_IF_ERROR(check_options(options));
  GANTRY_ASSIGN_OR_RETURN(const LoadOptions load, load_options(source, options));
  GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, load_sizes(source, load));
  const KvDemand demand = kv_demand(*model, options);
  GANTRY_ASSIGN_OR_RETURN(const KvSize size, size_kv_cache(demand));
  return ReplicaMemory{.weights = model->resident_weight_bytes(),
                       .activations = model->activation_bytes(),
                       .kv_cache = static_cast<uint64_t>(size.blocks) * demand.block_bytes,
                       .logits = static_cast<uint64_t>(logit_rows_of(options)) *
                                 static_cast<uint64_t>(model->config().vocab) * sizeof(float),
                       .kv_blocks = size.blocks,
                       .max_model_len = size.max_model_len,
                       .step_bytes = model->weight_bytes()};
}

Result<std::unique_ptr<ReplicaClient>> start_local_replica(std::unique_ptr<Model> model,
                                                           ReplicaOptions options) {
  GANTRY_RETURN_IF_ERROR(check_options(options));
  GANTRY_CHECK(options.ranks.ranks() == 1);
  return start_replica(nullptr, std::move(model), std::move(options));
}

}  // namespace gantry

// `gantry plan MODEL`: what a deployment needs and what it would reach, from config.json alone.
#include <cstdio>

#include "base/log.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/model_name.h"
#include "cli/plan_measure.h"
#include "cli/serve_options.h"
#include "plan/deployment_plan.h"

namespace gantry::cli {
namespace {

struct PlanOptions {
  std::string model;
  int tensor_parallel_size = 1;
  int pipeline_parallel_size = 1;
  bool expert_parallel = false;
  std::string gpu = "h100";
  std::string gpu_memory;
  double gpu_bandwidth = 0;
  double gpu_flops = 0;
  double gpu_memory_utilization = 0.92;
  int max_model_len = 0;
  int max_num_seqs = 64;
  int max_num_batched_tokens = 0;
  std::string kv_cache_dtype = "auto";
  int num_speculative_tokens = 0;
  int hosts = 1;
  std::string ranks = "gpu";
  bool json = false;
  bool measure = false;
  std::string load_format = "auto";
  int threads = 0;
};

Result<DeviceSpec> device_of(const PlanOptions& options) {
  GANTRY_ASSIGN_OR_RETURN(DeviceSpec device, find_device(options.gpu));
  if (options.gpu_memory.empty() && options.gpu_bandwidth == 0 && options.gpu_flops == 0) return device;
  device.name = "custom GPU";
  if (!options.gpu_memory.empty()) {
    GANTRY_ASSIGN_OR_RETURN(device.memory_bytes, parse_bytes(options.gpu_memory));
  }
  if (options.gpu_bandwidth < 0 || options.gpu_flops < 0) {
    return invalid_argument("--gpu-bandwidth and --gpu-flops are above 0, in bytes and operations a second");
  }
  if (options.gpu_bandwidth > 0) device.bandwidth = options.gpu_bandwidth;
  if (options.gpu_flops > 0) {
    device.fp8_flops = 2 * options.gpu_flops;
    device.bf16_flops = options.gpu_flops;
  }
  return device;
}

Result<DType> kv_dtype_of(const std::string& name) {
  if (name == "auto" || name == "bfloat16") return DType::kBF16;
  if (name == "fp8" || name == "fp8_e4m3") return DType::kF8E4M3;
  return invalid_argument("--kv-cache-dtype is " + name + ": one of auto, bfloat16, fp8, fp8_e4m3");
}

// Sequences and tokens are small unless they were asked for: a real run fills the cache.
Status run_measure(const PlanOptions& options, bool sequences_given) {
  init_log("warning");  // to stderr: standard output is the table or the JSON
  GANTRY_ASSIGN_OR_RETURN(const ResolvedModel model, resolve_model(options.model));
  MeasureOptions measure{.path = model.path,
                         .load_format = options.load_format,
                         .max_model_len = options.max_model_len,
                         .max_num_batched_tokens = options.max_num_batched_tokens,
                         .threads = options.threads,
                         .json = options.json};
  if (sequences_given) measure.max_num_seqs = options.max_num_seqs;
  GANTRY_ASSIGN_OR_RETURN(const std::string text, measure_plan(measure));
  std::fwrite(text.data(), 1, text.size(), stdout);
  return {};
}

Status run_plan(const PlanOptions& options) {
  GANTRY_ASSIGN_OR_RETURN(const PlannedModel model, open_planned_model(options.model));
  PlanRequest request;
  request.sizes = {options.tensor_parallel_size, options.pipeline_parallel_size, options.expert_parallel};
  GANTRY_ASSIGN_OR_RETURN(request.device, device_of(options));
  request.memory_utilization = options.gpu_memory_utilization;
  request.max_model_len = options.max_model_len > 0 ? options.max_model_len : model.config.max_position;
  request.max_num_seqs = options.max_num_seqs;
  // vLLM's defaults by size of the device.
  constexpr uint64_t kLargeDevice = 70ull << 30;
  request.max_num_batched_tokens = options.max_num_batched_tokens > 0 ? options.max_num_batched_tokens
                                   : request.device.memory_bytes >= kLargeDevice ? 8192
                                                                                 : 2048;
  GANTRY_ASSIGN_OR_RETURN(request.kv_dtype, kv_dtype_of(options.kv_cache_dtype));
  request.speculative_tokens = options.num_speculative_tokens;
  request.hosts = options.hosts;
  request.cuts_blocks = options.ranks == "cpu";
  GANTRY_ASSIGN_OR_RETURN(const DeploymentPlan plan, plan_deployment(model, request));
  const std::string text =
      options.json ? plan_json(model, request, plan).dump(1) + "\n" : plan_table(model, request, plan);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return {};
}

}  // namespace

void add_plan_command(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("plan", "Show what a deployment of a model needs and would reach");
  auto options = std::make_shared<PlanOptions>();
  PlanOptions& o = *options;
  command
      ->add_option("model", o.model,
                   "Folder (config.json is enough), .gguf file, or deepseek-ai/DeepSeek-R1 (built in)")
      ->required();
  add_flag(*command, "--tensor-parallel-size", o.tensor_parallel_size, "Ranks that split each layer (-tp)");
  add_flag(*command, "--pipeline-parallel-size", o.pipeline_parallel_size,
           "Stages that split the layers (-pp)");
  command->add_flag("--enable-expert-parallel", o.expert_parallel,
                    "Whole experts per rank instead of slices");
  add_flag(*command, "--gpu", o.gpu, "h100, h200, b200, l40s");
  add_flag(*command, "--gpu-memory", o.gpu_memory, "Bytes of another device, e.g. 24G");
  add_flag(*command, "--gpu-bandwidth", o.gpu_bandwidth, "Its memory's bytes a second, e.g. 1e12");
  add_flag(*command, "--gpu-flops", o.gpu_flops, "Its dense bf16 operations a second, e.g. 3e14");
  add_flag(*command, "--gpu-memory-utilization", o.gpu_memory_utilization,
           "Share of a device's memory that may be used");
  add_flag(*command, "--max-model-len", o.max_model_len, "Prompt and output together; 0: the checkpoint's");
  auto* sequences = add_flag(*command, "--max-num-seqs", o.max_num_seqs, "Sequences that run together");
  add_flag(*command, "--max-num-batched-tokens", o.max_num_batched_tokens,
           "Tokens of one step; 0: 8192 on devices of 70 GiB and more, else 2048");
  add_flag(*command, "--kv-cache-dtype", o.kv_cache_dtype, "auto (bfloat16), fp8");
  add_flag(*command, "--num-speculative-tokens", o.num_speculative_tokens,
           "Drafts of the MTP module, 0 to 3");
  add_flag(*command, "--hosts", o.hosts,
           "Hosts, with as many stages each: the traffic between them is predicted");
  add_flag(*command, "--ranks", o.ranks, "gpu; cpu: ranks whose slices may cut a block of scales")
      ->check(CLI::IsMember({"gpu", "cpu"}));
  command->add_flag("--json", o.json, "Print JSON");
  command->add_flag("--measure", o.measure,
                    "Run the model on this machine's CPU and compare memory and speed with what was planned");
  add_flag(*command, "--load-format", o.load_format, "With --measure: auto, or dummy (weights without files)")
      ->check(CLI::IsMember({"auto", "dummy"}));
  add_flag(*command, "--threads", o.threads, "With --measure: compute threads; 0: one per core");
  command->callback([options, sequences, &exit_code] {
    const Status status =
        options->measure ? run_measure(*options, sequences->count() > 0) : run_plan(*options);
    if (!status.ok()) std::fprintf(stderr, "gantry plan: %s\n", status.message().c_str());
    exit_code = status.ok() ? 0 : 1;
  });
}

}  // namespace gantry::cli

#include "cli/serve_options.h"

#include "cli/command_line.h"
#include "protocol/replica_client.h"

namespace gantry::cli {
namespace {

constexpr int kReplicasMax = 64;
constexpr int kRanksMax = 64;  // of one replica

Status check_range(const char* flag, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return {};
  return invalid_argument(std::string(flag) + " is " + std::to_string(value) + ", it must be " +
                              std::to_string(low) + " to " + std::to_string(high),
                          flag);
}

}  // namespace

void add_engine_flags(CLI::App& app, ServeOptions& o) {
  app.add_option("models,--model", o.models,
                 "Folders with config.json and safetensors, .gguf files, ORG/NAME of the hub, r1-tiny (the "
                 "default) or smollm2");
  add_flag(app, "--revision", o.revision, "Branch, tag or commit of models of the hub; default main");
  add_flag(
      app, "--dtype", o.dtype,
      "auto (the fast path of the weights' format), bfloat16 (the same, of BF16 and FP8 weights), float32 "
      "(exact parity mode)")
      ->check(CLI::IsMember({"auto", "bfloat16", "float32"}));
  add_switch(app, "--fp8-activations", o.fp8_activations,
             "FP8 weights by DeepSeek's recipe, with activations rounded to FP8 too; all else in float32");
  add_flag(app, "--load-format", o.load_format,
           "auto, safetensors, gguf; dummy: random weights of config.json's shapes, without files")
      ->check(CLI::IsMember({"auto", "safetensors", "gguf", "dummy"}));
  add_flag(app, "--device", o.device, "auto (a supported GPU, else the CPU), cpu, cuda")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  add_flag(app, "--threads", o.threads, "Compute threads; 0: one per core this process may use");
  add_flag(app, "--tensor-parallel-size", o.tensor_parallel_size, "Ranks that split each layer (-tp)");
  add_flag(app, "--pipeline-parallel-size", o.pipeline_parallel_size, "Stages that split the layers (-pp)");
  add_switch(app, "--enable-expert-parallel", o.expert_parallel,
             "Routed experts whole, spread over the tensor parallel ranks, instead of a slice of each");
  add_flag(app, "--placement", o.placement,
           "local: the ranks on this host; env: on the hosts that torchrun's, Slurm's, MPI's or a "
           "LeaderWorkerSet's "
           "variables name, with the same command on each")
      ->check(CLI::IsMember({"local", "env"}));
  add_flag(
      app, "--secret-file", o.secret_file,
      "File with the secret that the hosts share, readable by its owner; default: GANTRY_SECRET's value");
  add_flag(app, "--host-wait", o.host_wait_s, "Seconds that host 0 waits for the others, and they for it");
  add_flag(app, "--host-lease", o.host_lease_s,
           "Seconds that another host's agent waits for host 0 to come back before it ends");
  add_flag(app, "--rank-transport", o.rank_transport,
           "auto: shared memory within a host, TCP between hosts; tcp: TCP everywhere")
      ->check(CLI::IsMember({"auto", "tcp"}));
  add_flag(app, "--max-num-seqs", o.max_num_seqs, "Sequences that run together");
  add_flag(app, "--max-model-len", o.max_model_len,
           "Prompt and output together, in tokens; 0: the checkpoint's");
  add_flag(app, "--max-num-batched-tokens", o.max_num_batched_tokens, "Tokens of one engine step");
  add_flag(app, "--num-speculative-tokens", o.num_speculative_tokens,
           "Tokens that the checkpoint's MTP layer drafts ahead, 0 to 3; the text is the same for each");
  add_flag(app, "--max-prefill-beside-decodes", o.max_prefill_beside_decodes,
           "Prompt tokens of a step that also decodes, fewer late in a long context; 0: no limit");
  add_flag(app, "--max-queued-requests", o.max_queued_requests, "Requests that wait; more get 429");
  add_flag(app, "--max-queued-tokens", o.max_queued_tokens,
           "Prompt tokens and twice the expected output of what waits; 0: no limit");
  add_flag(app, "--max-queue-wait", o.max_queue_wait_s,
           "Longest expected wait in seconds, by how fast the queue drains; 0: no limit");
  add_flag(
      app, "--max-prefill-wait", o.max_prefill_wait_s,
      "Longest expected wait in seconds until a prompt's turn comes, with a slot of the batch or without; "
      "0: no limit");
  add_flag(app, "--kv-cache-memory", o.kv_cache_memory,
           "Bytes of the KV cache, e.g. 2G; default min(max-num-seqs x max-model-len, 512M)");
  add_flag(app, "--gpu-memory-utilization", o.gpu_memory_utilization,
           "Share of memory that the process may use, on a CPU of RAM: the KV cache gets what is left of it; "
           "0: off");
}

void add_serve_flags(CLI::App& app, ServeOptions& o) {
  add_engine_flags(app, o);
  add_flag(app, "--served-model-name", o.served_model_names, "Names the API uses, one per model, in order");
  add_flag(
      app, "--worker-process", o.worker_process,
      "on: the replica in a process of its own, which is started again when it dies, and no stream is lost; "
      "off: in this one; auto: on if there are several replicas or ranks")
      ->check(CLI::IsMember({"auto", "on", "off"}));
  add_flag(app, "--data-parallel-size", o.data_parallel_size, "Replicas of each model, in workers (-dp)");
  add_flag(app, "--step-timeout", o.step_timeout_s,
           "Seconds that a worker's step may take before it is ended");
  add_flag(app, "--host", o.host, "Address to listen on");
  add_flag(app, "--port", o.port, "Port to listen on; 0 takes a free one and prints it");
  add_flag(app, "--api-key", o.api_keys, "Keys that clients of /v1 must send; none: no key is asked for");
  add_flag(app, "--metrics-compat", o.metrics_compat, "vllm: also serve vLLM's metric names")
      ->check(CLI::IsMember({"none", "vllm"}));
  add_flag(app, "--log-level", o.log_level, "trace, debug, info, warning, error, off")
      ->check(CLI::IsMember({"trace", "debug", "info", "warning", "error", "off"}));
  add_flag(app, "--shutdown-timeout", o.shutdown_timeout_s, "Seconds that running streams get on SIGTERM");
}

Status validate(const ServeOptions& o) {
  GANTRY_RETURN_IF_ERROR(check_range("--port", o.port, 0, 65535));
  GANTRY_RETURN_IF_ERROR(check_range("--threads", o.threads, 0, 1024));
  if (o.fp8_activations && o.dtype != "auto") {
    return invalid_argument(
        "--fp8-activations is a way to compute of its own: --dtype must be auto, not " + o.dtype,
        "--fp8-activations");
  }
  GANTRY_RETURN_IF_ERROR(check_range("--max-num-seqs", o.max_num_seqs, 1, 4096));
  GANTRY_RETURN_IF_ERROR(check_range("--max-model-len", o.max_model_len, 0, 16 << 20));
  GANTRY_RETURN_IF_ERROR(check_range("--max-num-batched-tokens", o.max_num_batched_tokens, 1, 1 << 20));
  GANTRY_RETURN_IF_ERROR(check_range("--num-speculative-tokens", o.num_speculative_tokens, 0, kDraftsMax));
  GANTRY_RETURN_IF_ERROR(
      check_range("--max-prefill-beside-decodes", o.max_prefill_beside_decodes, 0, 1 << 20));
  GANTRY_RETURN_IF_ERROR(check_range("--max-queued-requests", o.max_queued_requests, 1, 1 << 20));
  GANTRY_RETURN_IF_ERROR(check_range("--max-queued-tokens", o.max_queued_tokens, 0, int64_t{1} << 40));
  for (const auto& [flag, seconds] : {std::pair("--max-queue-wait", o.max_queue_wait_s),
                                      std::pair("--max-prefill-wait", o.max_prefill_wait_s)}) {
    if (seconds >= 0 && seconds <= 86400) continue;  // false for NaN
    return invalid_argument(std::string(flag) + " must be 0 to 86400 seconds", flag);
  }
  if (o.max_num_batched_tokens < o.max_num_seqs) {
    return invalid_argument("--max-num-batched-tokens must be at least --max-num-seqs (" +
                                std::to_string(o.max_num_seqs) +
                                "): every running sequence takes one token a step",
                            "--max-num-batched-tokens");
  }
  GANTRY_RETURN_IF_ERROR(check_range("--data-parallel-size", o.data_parallel_size, 1, kReplicasMax));
  if (o.data_parallel_size > 1 && o.worker_process == "off") {
    return invalid_argument("--data-parallel-size above 1 needs --worker-process on or auto",
                            "--worker-process");
  }
  if (!(o.step_timeout_s > 0 && o.step_timeout_s <= 86400)) {
    return invalid_argument("--step-timeout must be above 0, to 86400 seconds", "--step-timeout");
  }
  GANTRY_RETURN_IF_ERROR(check_range("--tensor-parallel-size", o.tensor_parallel_size, 1, kRanksMax));
  GANTRY_RETURN_IF_ERROR(check_range("--pipeline-parallel-size", o.pipeline_parallel_size, 1,
                                     kRanksMax / o.tensor_parallel_size));
  GANTRY_RETURN_IF_ERROR(check_range("--host-wait", o.host_wait_s, 1, 86400));
  GANTRY_RETURN_IF_ERROR(check_range("--host-lease", o.host_lease_s, 1, 86400));
  if (!o.served_model_names.empty() && o.served_model_names.size() != o.models.size()) {
    return invalid_argument("--served-model-name gives " + std::to_string(o.served_model_names.size()) +
                                " names for " + std::to_string(o.models.size()) +
                                " models: one for each is needed",
                            "--served-model-name");
  }
  if (!o.kv_cache_memory.empty()) GANTRY_RETURN_IF_ERROR(parse_bytes(o.kv_cache_memory).status());
  if (!(o.gpu_memory_utilization >= 0 && o.gpu_memory_utilization <= 1)) {
    return invalid_argument("--gpu-memory-utilization must be above 0, to 1; 0 turns it off",
                            "--gpu-memory-utilization");
  }
  if (o.gpu_memory_utilization > 0 && o.models.size() > 1) {
    return invalid_argument(
        "--gpu-memory-utilization gives the rest of memory to one model's KV cache, and there are " +
            std::to_string(o.models.size()) + ": use --kv-cache-memory, which they share equally",
        "--gpu-memory-utilization");
  }
  if (o.gpu_memory_utilization > 0 && o.data_parallel_size > 1) {
    return invalid_argument(
        "--gpu-memory-utilization gives the rest of memory to one replica's KV cache, and there are " +
            std::to_string(o.data_parallel_size) + ": use --kv-cache-memory, which they share equally",
        "--gpu-memory-utilization");
  }
  if (o.shutdown_timeout_s < 0 || o.shutdown_timeout_s > 86400) {
    return invalid_argument("--shutdown-timeout must be 0 to 86400 seconds", "--shutdown-timeout");
  }
  return {};
}

Compute compute_of(const ServeOptions& o) {
  return o.fp8_activations ? Compute::kF8 : o.dtype == "float32" ? Compute::kF32 : Compute::kAuto;
}

bool uses_workers(const ServeOptions& o) {
  return o.worker_process == "on" ||
         (o.worker_process == "auto" && (o.data_parallel_size > 1 || ranks_of(o) > 1));
}

std::vector<std::string> engine_arguments(const ServeOptions& options) {
  ServeOptions values = options;
  CLI::App app;
  add_engine_flags(app, values);  // captures the values as each option's default
  std::vector<std::string> arguments;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional() || option->get_lnames().empty()) continue;  // the models, --help
    const std::string value = option->get_default_str();
    if (!value.empty()) arguments.push_back("--" + option->get_lnames().front() + "=" + value);
  }
  return arguments;
}

Result<uint64_t> parse_bytes(const std::string& text) {
  uint64_t value = 0;
  size_t i = 0;
  for (; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i) {
    if (value > (uint64_t{1} << 50)) break;
    value = value * 10 + static_cast<uint64_t>(text[i] - '0');
  }
  int shift = 0;
  if (i > 0 && i + 1 == text.size()) {
    shift = text[i] == 'K' ? 10 : text[i] == 'M' ? 20 : text[i] == 'G' ? 30 : -1;
    ++i;
  }
  if (i == 0 || i != text.size() || shift < 0 || value > (uint64_t{1} << 50) >> shift) {
    return invalid_argument("\"" + text +
                            "\" is no size: write bytes, or a number with K, M or G, such as 512M");
  }
  return value << shift;
}

}  // namespace gantry::cli

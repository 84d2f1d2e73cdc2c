#include "plan/deployment_plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "base/limits.h"
#include "formats/strict_json.h"
#include "plan/published_configs.h"

namespace gantry {
namespace {

constexpr int32_t kPipelineMax = 16;  // stages that alternatives go up to

Status check(const char* name, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return {};
  return invalid_argument(fmt::format("{} is {}: want {} to {}", name, value, low, high), name);
}

Status check_request(const PlannedModel& model, const PlanRequest& request) {
  GANTRY_RETURN_IF_ERROR(check("max_model_len", request.max_model_len, 2, model.config.max_position));
  GANTRY_RETURN_IF_ERROR(check("max_num_seqs", request.max_num_seqs, 1, limits::kSequencesMax));
  GANTRY_RETURN_IF_ERROR(
      check("max_num_batched_tokens", request.max_num_batched_tokens, 1, limits::kBatchedTokensMax));
  GANTRY_RETURN_IF_ERROR(check("num_speculative_tokens", request.speculative_tokens, 0, 3));
  if (request.hosts < 1 || request.sizes.pipeline % request.hosts != 0) {
    return invalid_argument(
        fmt::format("hosts is {}: each has whole stages, so it must divide pipeline_parallel_size {}",
                    request.hosts, request.sizes.pipeline),
        "hosts");
  }
  if (request.speculative_tokens > 0 && model.config.mtp_layers == 0) {
    return invalid_argument(model.name + " has no multi-token prediction module: num_speculative_tokens is 0",
                            "num_speculative_tokens");
  }
  if (!(request.memory_utilization > 0 && request.memory_utilization <= 1)) {
    return invalid_argument(
        fmt::format("gpu_memory_utilization is {}: want above 0, to 1", request.memory_utilization),
        "gpu_memory_utilization");
  }
  if (request.device.memory_bytes == 0)
    return invalid_argument("a device has 0 bytes of memory", "gpu_memory");
  return {};
}

std::optional<Alternative> fitting(const PlannedModel& model, const PlanRequest& request) {
  const auto layout =
      ParallelLayout::create(model.config, quant_block_of(model.tensors, model.format), request.sizes);
  if (!layout.ok()) return std::nullopt;
  const MemoryPlan memory = plan_memory(model, *layout, request);
  if (!memory.fits()) return std::nullopt;
  return Alternative{request.device.name, request.sizes, memory.requests_of_max_len};
}

// The fewest stages that hold the model with `tensor` ranks each.
std::optional<Alternative> fewest_stages(const PlannedModel& model, PlanRequest request, int32_t tensor) {
  request.sizes.tensor = tensor;
  for (int32_t stages = 1; stages <= std::min(kPipelineMax, model.config.layers); ++stages) {
    request.sizes.pipeline = stages;
    if (auto found = fitting(model, request)) return found;
  }
  return std::nullopt;
}

// What holds one request of max_model_len: more stages, the fewest devices in any layout whose tensor
// parallel ranks share a node, and the smallest larger device.
void find_alternatives(const PlannedModel& model, const PlanRequest& request, DeploymentPlan& plan) {
  const int64_t longest = plan.memory.blocks * limits::kKvBlockTokens + 1;
  plan.max_model_len_that_fits = plan.memory.blocks > 0 ? static_cast<int32_t>(longest) : 0;
  std::optional<Alternative> best = fewest_stages(model, request, request.sizes.tensor);
  if (best) plan.alternatives.push_back(*best);
  const auto fewest = best;
  const QuantBlock block = quant_block_of(model.tensors, model.format);
  for (const int32_t tensor :
       ParallelLayout::tensor_sizes(model.config, block, request.sizes.expert_parallel)) {
    if (tensor > request.device.per_node) break;
    const auto found = fewest_stages(model, request, tensor);
    if (found && (!best || found->sizes.ranks() < best->sizes.ranks())) best = found;
  }
  if (best && (!fewest || best->sizes.ranks() < fewest->sizes.ranks())) plan.alternatives.push_back(*best);
  for (const DeviceSpec& device : known_devices()) {
    if (device.memory_bytes <= request.device.memory_bytes) continue;
    PlanRequest other = request;
    other.device = device;
    const auto found = fitting(model, other);
    if (!found) continue;
    plan.alternatives.push_back(*found);
    break;
  }
}

void predict(const PlannedModel& model, const ParallelLayout& layout, const PlanRequest& request,
             DeploymentPlan& plan) {
  const Efficiency efficiency;
  const Roofline roofline(model, layout, request, efficiency);
  std::vector<int32_t> contexts;
  for (const int32_t context : {1024, 4096, request.max_model_len}) {
    if (context <= request.max_model_len && (contexts.empty() || contexts.back() < context)) {
      contexts.push_back(context);
    }
  }
  std::vector<int32_t> batches{1};
  if (request.max_num_seqs > 1) batches.push_back(request.max_num_seqs);
  for (const int32_t batch : batches) {
    for (const int32_t context : contexts) {
      // No more sequences run at this length than the cache holds.
      const int64_t blocks = (context + limits::kKvBlockTokens - 1) / limits::kKvBlockTokens;
      const int64_t held = std::min<int64_t>(batch, plan.memory.blocks / blocks);
      if (held < 1) continue;
      plan.decode.push_back(roofline.decode(static_cast<int32_t>(held), context));
    }
  }
  for (const int32_t prompt : contexts) {
    const int32_t tokens = std::min(prompt, request.max_model_len - 1);
    plan.first_token.push_back({tokens, roofline.first_token_s(tokens)});
  }
}

Result<PlannedModel> planned_model(const std::string& name, const nlohmann::json& config,
                                   const WeightSource* source) {
  PlannedModel model;
  model.name = name;
  const auto parsed = parse_model_config(config, nlohmann::json::object());
  if (!parsed.ok()) return parsed.status().with_context(name);
  model.config = *parsed;
  const auto format = parse_weight_format(config, model.config);
  if (!format.ok()) return format.status().with_context(name);
  model.format = *format;
  model.tensors = source != nullptr ? checkpoint_tensors(model.config, *source)
                                    : checkpoint_tensors(model.config, model.format);
  return model;
}

}  // namespace

Result<PlannedModel> open_planned_model(const std::string& path_or_name) {
  namespace fs = std::filesystem;
  std::error_code error;
  nlohmann::json config;
  std::unique_ptr<WeightSource> source;
  if (!fs::exists(path_or_name, error)) {
    const auto known = published_config(path_or_name);
    if (!known) {
      return not_found(fmt::format("{} is neither a folder with config.json, nor a .gguf file, nor one of {}",
                                   path_or_name, fmt::join(published_names(), ", ")));
    }
    config = *known;
  } else {
    const fs::path folder(path_or_name);
    const bool has_weights = !fs::is_directory(folder, error) ||
                             fs::exists(folder / "model.safetensors", error) ||
                             fs::exists(folder / "model.safetensors.index.json", error);
    if (has_weights) {
      GANTRY_ASSIGN_OR_RETURN(source, open_weights(path_or_name));
      config = source->config();
    } else {
      GANTRY_ASSIGN_OR_RETURN(config, read_json_object((folder / "config.json").string()));
    }
  }
  return planned_model(path_or_name, config, source.get());
}

Result<PlannedModel> planned_model(const std::string& name, const WeightSource& source) {
  return planned_model(name, source.config(), &source);
}

Result<DeploymentPlan> plan_deployment(const PlannedModel& model, const PlanRequest& request) {
  GANTRY_RETURN_IF_ERROR(check_request(model, request));
  GANTRY_ASSIGN_OR_RETURN(
      const ParallelLayout layout,
      ParallelLayout::create(
          model.config, request.cuts_blocks ? QuantBlock{1, 1} : quant_block_of(model.tensors, model.format),
          request.sizes));
  DeploymentPlan plan;
  plan.memory = plan_memory(model, layout, request);
  for (const int32_t sequences : {1, request.max_num_seqs}) {
    if (request.hosts == 1) break;
    plan.traffic.push_back({sequences, host_traffic(model.config, request.sizes, request.hosts, sequences)});
  }
  if (!plan.memory.fits()) {
    find_alternatives(model, request, plan);
  } else if (request.device.bandwidth > 0 && request.device.bf16_flops > 0) {
    predict(model, layout, request, plan);
  }
  return plan;
}

}  // namespace gantry

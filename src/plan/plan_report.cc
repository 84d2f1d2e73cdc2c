// The table for people and the JSON for programs.
#include <fmt/format.h>

#include "base/limits.h"
#include "plan/deployment_plan.h"

namespace gantry {
namespace {

double gb(double bytes) { return bytes / 1e9; }

std::string grouped(uint64_t value) {
  std::string digits = std::to_string(value);
  for (int at = static_cast<int>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<size_t>(at), ",");
  return digits;
}

std::string size_text(const ParallelSizes& sizes) {
  return fmt::format("TP {} x PP {}{}", sizes.tensor, sizes.pipeline,
                     sizes.expert_parallel ? ", experts whole" : "");
}

std::string stage_rows(const PlanRequest& request, const DeploymentPlan& plan) {
  std::string out =
      fmt::format("\nPer rank, GB of 10^9 bytes (budget {:.2f} x {:.2f})\n", request.memory_utilization,
                  gb(static_cast<double>(request.device.memory_bytes)));
  out += "  ranks      layers   weights  W_UK,W_UV  activations  reserve  left for KV  KV B/token   blocks\n";
  int32_t rank = 0;
  for (const StagePlan& stage : plan.memory.stages) {
    out += fmt::format(
        "  {:<9}  {:>3}-{:<3}  {:>8.2f}  {:>9.2f}  {:>11.2f}  {:>7.2f}  {:>11.2f}  {:>10}  {:>7}\n",
        request.sizes.tensor == 1 ? fmt::format("{}", rank)
                                  : fmt::format("{}-{}", rank, rank + request.sizes.tensor - 1),
        stage.layers.begin, stage.layers.end - 1, gb(static_cast<double>(stage.weight_bytes)),
        gb(static_cast<double>(stage.absorbed_bytes)), gb(static_cast<double>(stage.activation_bytes)),
        gb(static_cast<double>(kDeviceReserveBytes)), gb(static_cast<double>(stage.kv_budget_bytes)),
        stage.kv_token_bytes, stage.blocks);
    rank += request.sizes.tensor;
  }
  return out;
}

std::string fit_text(const PlanRequest& request, const DeploymentPlan& plan) {
  const MemoryPlan& memory = plan.memory;
  if (memory.fits()) {
    return fmt::format(
        "\nFits: {} blocks of {} tokens = {} tokens of KV cache; {} requests of max_model_len {} at once{}\n",
        memory.blocks, limits::kKvBlockTokens,
        grouped(static_cast<uint64_t>(memory.blocks * limits::kKvBlockTokens)), memory.requests_of_max_len,
        request.max_model_len,
        memory.requests_of_max_len < request.max_num_seqs
            ? fmt::format(" (max_num_seqs is {}: more wait or are shorter)", request.max_num_seqs)
            : "");
  }
  std::string out =
      fmt::format("\nDoes not fit: one request of max_model_len {} needs {} blocks, there are {}.\n",
                  request.max_model_len, memory.request_blocks, memory.blocks);
  for (size_t i = 0; i < memory.stages.size(); ++i) {
    const int64_t left = memory.stages[i].kv_budget_bytes;
    if (left < 0)
      out += fmt::format("  stage {}: {:.2f} GB too much before any KV cache\n", i,
                         gb(-static_cast<double>(left)));
  }
  if (plan.max_model_len_that_fits > 1) {
    out += fmt::format("  would fit: max_model_len {}\n", plan.max_model_len_that_fits);
  }
  for (const Alternative& other : plan.alternatives) {
    out += fmt::format("  would fit: {} {} ({} devices), {} requests of that length\n", other.device,
                       size_text(other.sizes), other.sizes.ranks(), other.requests_of_max_len);
  }
  return out;
}

std::string traffic_text(const PlanRequest& request, const DeploymentPlan& plan) {
  std::string out = fmt::format(
      "\nPredicted traffic of {} hosts, bytes a decoded token, headers included\n"
      "  sequences  to the next host  host 0 sends  host 0 receives\n",
      request.hosts);
  for (const DeploymentPlan::Traffic& row : plan.traffic) {
    out += fmt::format("  {:>9}  {:>16.0f}  {:>12.0f}  {:>15.0f}\n", row.sequences, row.each.rows,
                       row.each.first_sends(request.hosts), row.each.first_receives());
  }
  return out;
}

std::string speed_text(const PlanRequest& request, const DeploymentPlan& plan) {
  const Efficiency e;
  std::string out = "\nPredicted decode\n  sequences  context   tok/s  tok/s each  ms a step\n";
  for (const Roofline::Decode& row : plan.decode) {
    out += fmt::format("  {:>9}  {:>7}  {:>6.0f}  {:>10.1f}  {:>9.2f}\n", row.sequences, row.context,
                       row.tokens_per_s, row.tokens_per_user_s, row.step_s * 1e3);
  }
  out += "Predicted time to first token of a lone prompt\n  prompt       ms\n";
  for (const auto& row : plan.first_token) {
    out += fmt::format("  {:>6}  {:>7.1f}\n", row.prompt, row.seconds * 1e3);
  }
  out += fmt::format(
      "Assumed: {:.0f}% of the data sheet's bandwidth ({:.2f} TB/s), {:.0f}% of its FP8 and {:.0f}% of its "
      "bf16 "
      "rate,\n  kernels at {:.0f}% of that floor, at least {:.0f} us an operation, {:.0f} us an all-reduce, "
      "{:.0f} us a stage's hand-over, "
      "experts "
      "hit as if at random{}.\n",
      e.bandwidth * 100, request.device.bandwidth / 1e12, e.fp8 * 100, e.bf16 * 100, e.kernels * 100,
      e.operation_s * 1e6, e.all_reduce_s * 1e6, e.hop_s * 1e6,
      request.speculative_tokens > 0
          ? fmt::format(", {} tokens a step with {} drafts", e.accepted[request.speculative_tokens - 1],
                        request.speculative_tokens)
          : "");
  return out;
}

}  // namespace

std::string plan_table(const PlannedModel& model, const PlanRequest& request, const DeploymentPlan& plan) {
  const PlannedModel::Total main = model.total(false), all = model.total(true);
  std::string out =
      fmt::format("{} ({}, {} layers) on {} x {}: {}\n", model.name, model.config.architecture,
                  model.config.layers, request.sizes.ranks(), request.device.name, size_text(request.sizes));
  out +=
      fmt::format("Checkpoint: {} B in {} tensors, {:.2f} B parameters", grouped(main.bytes),
                  grouped(static_cast<uint64_t>(main.tensors)), static_cast<double>(main.parameters) / 1e9);
  if (all.tensors > main.tensors) {
    out += fmt::format("; with MTP {} B in {} tensors", grouped(all.bytes),
                       grouped(static_cast<uint64_t>(all.tensors)));
  }
  out += "\n" + stage_rows(request, plan) + fit_text(request, plan);
  if (!plan.decode.empty()) out += speed_text(request, plan);
  if (!plan.traffic.empty()) out += traffic_text(request, plan);
  return out;
}

nlohmann::ordered_json plan_json(const PlannedModel& model, const PlanRequest& request,
                                 const DeploymentPlan& plan) {
  using json = nlohmann::ordered_json;
  const auto total = [](const PlannedModel::Total& t) {
    return json{{"bytes", t.bytes}, {"tensors", t.tensors}, {"parameters", t.parameters}};
  };
  json out;
  out["model"] = model.name;
  out["architecture"] = model.config.architecture;
  out["checkpoint"] = total(model.total(false));
  if (model.config.mtp_layers > 0) out["checkpoint_with_mtp"] = total(model.total(true));
  out["tensor_parallel_size"] = request.sizes.tensor;
  out["pipeline_parallel_size"] = request.sizes.pipeline;
  out["enable_expert_parallel"] = request.sizes.expert_parallel;
  out["device"] = {{"name", request.device.name}, {"memory_bytes", request.device.memory_bytes}};
  out["gpu_memory_utilization"] = request.memory_utilization;
  out["max_model_len"] = request.max_model_len;
  out["max_num_seqs"] = request.max_num_seqs;
  out["max_num_batched_tokens"] = request.max_num_batched_tokens;
  out["num_speculative_tokens"] = request.speculative_tokens;
  out["stages"] = json::array();
  for (const StagePlan& stage : plan.memory.stages) {
    out["stages"].push_back({{"layers", {stage.layers.begin, stage.layers.end}},
                             {"weight_bytes", stage.weight_bytes},
                             {"absorbed_bytes", stage.absorbed_bytes},
                             {"activation_bytes", stage.activation_bytes},
                             {"reserve_bytes", kDeviceReserveBytes},
                             {"kv_budget_bytes", stage.kv_budget_bytes},
                             {"kv_bytes_per_token", stage.kv_token_bytes},
                             {"blocks", stage.blocks}});
  }
  out["fits"] = plan.memory.fits();
  out["blocks"] = plan.memory.blocks;
  out["block_tokens"] = limits::kKvBlockTokens;
  out["requests_of_max_model_len"] = plan.memory.requests_of_max_len;
  if (!plan.memory.fits()) {
    out["max_model_len_that_fits"] = plan.max_model_len_that_fits;
    out["would_fit"] = json::array();
    for (const Alternative& other : plan.alternatives) {
      out["would_fit"].push_back({{"device", other.device},
                                  {"tensor_parallel_size", other.sizes.tensor},
                                  {"pipeline_parallel_size", other.sizes.pipeline},
                                  {"requests_of_max_model_len", other.requests_of_max_len}});
    }
  }
  if (!plan.traffic.empty()) {
    out["hosts"] = request.hosts;
    out["traffic_bytes_per_token"] = json::array();
    for (const DeploymentPlan::Traffic& row : plan.traffic) {
      out["traffic_bytes_per_token"].push_back({{"sequences", row.sequences},
                                                {"to_next_host", row.each.rows},
                                                {"host_0_sends", row.each.first_sends(request.hosts)},
                                                {"host_0_receives", row.each.first_receives()}});
    }
  }
  if (!plan.decode.empty()) {
    const Efficiency e;
    out["assumed"] = {{"bandwidth_share", e.bandwidth},
                      {"fp8_share", e.fp8},
                      {"bf16_share", e.bf16},
                      {"kernel_share", e.kernels},
                      {"operation_s", e.operation_s},
                      {"all_reduce_s", e.all_reduce_s},
                      {"hop_s", e.hop_s}};
    out["decode"] = json::array();
    for (const Roofline::Decode& row : plan.decode) {
      out["decode"].push_back({{"sequences", row.sequences},
                               {"context", row.context},
                               {"tokens_per_s", row.tokens_per_s},
                               {"tokens_per_user_s", row.tokens_per_user_s},
                               {"step_s", row.step_s}});
    }
    out["first_token"] = json::array();
    for (const auto& row : plan.first_token) {
      out["first_token"].push_back({{"prompt", row.prompt}, {"seconds", row.seconds}});
    }
  }
  return out;
}

}  // namespace gantry

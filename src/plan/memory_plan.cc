#include "plan/memory_plan.h"

#include <algorithm>

#include "base/limits.h"

namespace gantry {
namespace {

constexpr int64_t kBF16Bytes = 2;

bool is_scale(const CheckpointTensor& tensor) { return tensor.name.ends_with("_scale_inv"); }

// W_UK and W_UV are kv_b_proj's values in bf16; a checkpoint in bf16 or GGUF's two parts needs no more.
int64_t absorbed_bytes(const CheckpointTensor& tensor, const TensorSlice& slice) {
  if (tensor.name.find(".kv_b_proj.weight") == std::string::npos || !slice.held) return 0;
  const int64_t elements = is_scale(tensor) ? 0 : tensor.shape.elements() / tensor.shape[0] * slice.size;
  return elements * kBF16Bytes - static_cast<int64_t>(slice.bytes(tensor));
}

// Buffers of one step: residual stream, attention, feed-forward with its tokens sorted by expert, logits.
uint64_t activation_bytes(const ModelConfig& config, const ParallelLayout& layout,
                          const PlanRequest& request) {
  const auto rows = static_cast<uint64_t>(request.max_num_batched_tokens);
  const auto ranks = static_cast<uint64_t>(layout.sizes().tensor);
  const auto hidden = static_cast<uint64_t>(config.hidden);
  const auto heads = static_cast<uint64_t>(layout.heads());
  uint64_t attention = 0;
  if (config.mla) {
    const auto key = static_cast<uint64_t>(config.mla->kv_lora_rank + config.mla->qk_rope_head_dim);
    const auto latent = static_cast<uint64_t>(config.mla->kv_lora_rank);
    attention = static_cast<uint64_t>(config.mla->q_lora_rank) + key +
                heads * (static_cast<uint64_t>(config.head_dim) + key + latent +
                         static_cast<uint64_t>(config.mla->v_head_dim));
  } else {
    attention =
        (2 * heads + 2 * static_cast<uint64_t>(layout.kv_heads())) * static_cast<uint64_t>(config.head_dim);
  }
  uint64_t feed_forward = 3 * static_cast<uint64_t>(config.intermediate) / ranks;
  if (config.moe) {
    const auto top_k = static_cast<uint64_t>(config.moe->experts_per_token);
    const auto width = static_cast<uint64_t>(config.moe->intermediate);
    // Input and output of every chosen expert, and its gate, up and product.
    const uint64_t sorted = layout.sizes().expert_parallel ? top_k * (2 * hidden + 3 * width) / ranks
                                                           : top_k * (2 * hidden + 3 * width / ranks);
    feed_forward = std::max(feed_forward, sorted);
  }
  const auto logit_rows =
      static_cast<uint64_t>(request.max_num_seqs) * static_cast<uint64_t>(1 + request.speculative_tokens);
  const uint64_t logits = logit_rows * static_cast<uint64_t>(config.vocab) * sizeof(float);
  return rows * uint64_t{kBF16Bytes} * (2 * hidden + std::max(attention, feed_forward)) + logits;
}

}  // namespace

PlannedModel::Total PlannedModel::total(bool with_mtp) const {
  Total total;
  for (const CheckpointTensor& tensor : tensors) {
    if (tensor.place == CheckpointTensor::Place::kMtp && !with_mtp) continue;
    total.bytes += tensor.bytes();
    ++total.tensors;
    if (!is_scale(tensor)) total.parameters += tensor.shape.elements();
  }
  return total;
}

uint64_t kv_token_bytes(const ModelConfig& config, const ParallelLayout& layout, int32_t layers,
                        DType dtype) {
  const int64_t values = config.mla ? config.mla->kv_lora_rank + config.mla->qk_rope_head_dim
                                    : 2 * int64_t{layout.kv_heads()} * config.head_dim;
  return static_cast<uint64_t>(layers) * bytes_of(dtype, static_cast<uint64_t>(values)).value_or(0);
}

MemoryPlan plan_memory(const PlannedModel& model, const ParallelLayout& layout, const PlanRequest& request) {
  MemoryPlan plan;
  const bool with_mtp = request.speculative_tokens > 0;
  const int64_t tokens = limits::kKvBlockTokens;
  // The last token of a request is never fed back, so that it needs no place.
  plan.request_blocks = (std::max<int64_t>(request.max_model_len - 1, 1) + tokens - 1) / tokens;
  for (int32_t stage = 0; stage < layout.sizes().pipeline; ++stage) {
    const bool last = stage + 1 == layout.sizes().pipeline;
    StagePlan out;
    out.layers = layout.stages()[static_cast<size_t>(stage)];
    for (const CheckpointTensor& tensor : model.tensors) {
      if (tensor.place == CheckpointTensor::Place::kMtp && !with_mtp) continue;
      const TensorSlice slice = layout.slice(tensor, {.stage = stage, .tensor_rank = 0});
      out.weight_bytes += slice.bytes(tensor);
      out.absorbed_bytes += absorbed_bytes(tensor, slice);
    }
    out.activation_bytes = activation_bytes(model.config, layout, request);
    const int32_t kv_layers = out.layers.count() + (last && with_mtp ? model.config.mtp_layers : 0);
    out.kv_token_bytes = kv_token_bytes(model.config, layout, kv_layers, request.kv_dtype);
    out.budget_bytes =
        static_cast<uint64_t>(static_cast<double>(request.device.memory_bytes) * request.memory_utilization);
    out.kv_budget_bytes =
        static_cast<int64_t>(out.budget_bytes) -
        static_cast<int64_t>(out.weight_bytes + out.activation_bytes + kDeviceReserveBytes) -
        out.absorbed_bytes;
    const auto block_bytes = static_cast<int64_t>(out.kv_token_bytes) * tokens;
    out.blocks = std::max<int64_t>(0, out.kv_budget_bytes / block_bytes);
    plan.blocks = stage == 0 ? out.blocks : std::min(plan.blocks, out.blocks);
    plan.stages.push_back(out);
  }
  plan.requests_of_max_len = plan.blocks / plan.request_blocks;
  return plan;
}

}  // namespace gantry

#include "plan/roofline.h"

#include <algorithm>
#include <cmath>
#include <string_view>

namespace gantry {
namespace {

constexpr double kBF16Bytes = 2;

bool contains(const CheckpointTensor& tensor, std::string_view part) {
  return tensor.name.find(part) != std::string::npos;
}

}  // namespace

Roofline::Roofline(const PlannedModel& model, const ParallelLayout& layout, const PlanRequest& request,
                   const Efficiency& efficiency)
    : model_(model), layout_(layout), request_(request), efficiency_(efficiency) {
  for (int32_t stage = 0; stage < layout.sizes().pipeline; ++stage) {
    StageWork work;
    work.layers.resize(static_cast<size_t>(layout.stages()[static_cast<size_t>(stage)].count()));
    for (const CheckpointTensor& tensor : model.tensors) {
      const TensorSlice slice = layout.slice(tensor, {.stage = stage, .tensor_rank = 0});
      if (slice.held) add(tensor, slice, work);
    }
    stages_.push_back(std::move(work));
  }
}

void Roofline::add(const CheckpointTensor& tensor, const TensorSlice& slice, StageWork& stage) const {
  using Place = CheckpointTensor::Place;
  const auto bytes = static_cast<double>(slice.bytes(tensor));
  const double weights = contains(tensor, "_scale_inv") ? 0
                                                        : static_cast<double>(tensor.shape.elements()) /
                                                              static_cast<double>(tensor.shape[slice.dim]) *
                                                              static_cast<double>(slice.size);
  const bool is_table = contains(tensor, "embed_tokens");
  if (tensor.place == Place::kEverywhere) return;
  if (tensor.place == Place::kEmbedding && !(is_table && model_.config.tied_embeddings)) return;
  if (tensor.place == Place::kEmbedding || tensor.place == Place::kHead) {
    stage.head_bytes += bytes;
    stage.head_weights += weights;
    return;
  }
  const bool mtp = tensor.place == Place::kMtp;
  if (mtp && is_table) return;
  if (mtp && contains(tensor, ".shared_head.")) {
    stage.mtp_head_bytes += bytes;
    stage.mtp_head_weights += weights;
    return;
  }
  if (mtp && contains(tensor, ".eh_proj.")) {
    stage.projection_bytes += bytes;
    stage.projection_weights += weights;
    return;
  }
  const auto first = [&] {
    for (const LayerRange& range : layout_.stages()) {
      if (tensor.layer >= range.begin && tensor.layer < range.end) return range.begin;
    }
    return 0;
  };
  LayerWork& layer = mtp ? stage.mtp : stage.layers[static_cast<size_t>(tensor.layer - first())];
  if (tensor.expert >= 0) {
    layer.expert_bytes += bytes;
    layer.expert_weights += weights;
  } else if (contains(tensor, ".mlp.gate.")) {
    layer.gate_bytes += bytes;
    layer.gate_weights += weights;
  } else if (contains(tensor, ".mlp.")) {
    layer.dense_bytes += bytes;
    layer.dense_weights += weights;
  } else if (contains(tensor, ".self_attn.")) {
    layer.attention_bytes += bytes;
    layer.attention_weights += weights;
  }
}

double Roofline::op_s(double bytes, double quantized_flops, double bf16_flops) const {
  const DeviceSpec& device = request_.device;
  const double bf16_rate = device.bf16_flops * efficiency_.bf16;
  const bool fp8 = model_.format.fp8_block > 0 && device.fp8_flops > 0;
  const double quantized_rate = fp8 ? device.fp8_flops * efficiency_.fp8 : bf16_rate;
  return std::max({bytes / (device.bandwidth * efficiency_.bandwidth),
                   quantized_flops / quantized_rate + bf16_flops / bf16_rate, efficiency_.operation_s});
}

double Roofline::exchange_s(double rows) const {
  const double ranks = layout_.sizes().tensor;
  if (ranks <= 1) return 0;
  const double bytes = rows * model_.config.hidden * kBF16Bytes * 2 * (ranks - 1) / ranks;
  return 2 * (efficiency_.all_reduce_s + bytes / request_.device.link_bandwidth);
}

double Roofline::work_s(const LayerWork& work, const Batch& batch) const {
  const ModelConfig& config = model_.config;
  const double rows = batch.sequences * batch.rows;
  const double heads = layout_.heads();
  double per_pair = 4.0 * heads * config.head_dim;  // q k and p v
  if (config.mla) {
    const double latent = config.mla->kv_lora_rank, rope = config.mla->qk_rope_head_dim;
    per_pair = batch.prefill ? 2 * heads * (config.mla->qk_nope_head_dim + rope + config.mla->v_head_dim)
                             : 2 * heads * (latent + rope + latent);
  }
  const double kv_bytes = batch.sequences * batch.context *
                          static_cast<double>(kv_token_bytes(config, layout_, 1, request_.kv_dtype));
  const double pairs = rows * (batch.context + (batch.rows - 1) / 2);
  double seconds = op_s(work.attention_bytes, 2 * rows * work.attention_weights, 0) +
                   op_s(kv_bytes, 0, pairs * per_pair) + exchange_s(rows);
  double bytes = work.dense_bytes, weights = work.dense_weights;
  if (work.expert_bytes > 0) {
    const double experts = config.moe->experts, chosen = config.moe->experts_per_token;
    const double hit = 1 - std::pow(1 - chosen / experts, rows);  // of each expert, routing near uniform
    bytes += hit * work.expert_bytes;
    weights += chosen / experts * work.expert_weights;
    seconds += op_s(work.gate_bytes, 0, 2 * rows * work.gate_weights);
  }
  return seconds + op_s(bytes, 2 * rows * weights, 0);
}

double Roofline::layer_s(int32_t stage, int32_t layer, const Batch& batch) const {
  return work_s(stages_[static_cast<size_t>(stage)].layers[static_cast<size_t>(layer)], batch);
}

double Roofline::stage_s(int32_t stage, const Batch& batch) const {
  const StageWork& work = stages_[static_cast<size_t>(stage)];
  double seconds = 0;
  for (const LayerWork& layer : work.layers) seconds += work_s(layer, batch);
  const bool last = stage + 1 == layout_.sizes().pipeline;
  if (!last) return seconds + efficiency_.hop_s;
  const double head_rows = batch.prefill ? batch.sequences : batch.sequences * batch.rows;
  seconds += op_s(work.head_bytes, 0, 2 * head_rows * work.head_weights);
  if (batch.prefill) return seconds;
  const Batch draft{.sequences = batch.sequences, .rows = 1, .context = batch.context};
  if (request_.speculative_tokens == 0) return seconds;
  const double draft_s = work_s(work.mtp, draft) +
                         op_s(work.projection_bytes, 0, 2 * batch.sequences * work.projection_weights) +
                         op_s(work.mtp_head_bytes, 0, 2 * batch.sequences * work.mtp_head_weights);
  return seconds + request_.speculative_tokens * draft_s;
}

Roofline::Decode Roofline::decode(int32_t sequences, int32_t context) const {
  const int32_t stages = layout_.sizes().pipeline;
  const int32_t micro_batches = std::min(stages, sequences);
  const int32_t drafts = request_.speculative_tokens;
  const Batch batch{.sequences = std::ceil(static_cast<double>(sequences) / micro_batches),
                    .rows = static_cast<double>(1 + drafts),
                    .context = static_cast<double>(context)};
  double sum = 0, longest = 0;
  for (int32_t stage = 0; stage < stages; ++stage) {
    const double seconds = stage_s(stage, batch);
    sum += seconds;
    longest = std::max(longest, seconds);
  }
  Decode out{.sequences = sequences, .context = context};
  out.step_s = std::max(sum, longest * micro_batches) / efficiency_.kernels;
  const double tokens = drafts > 0 ? efficiency_.accepted[std::min(drafts, 3) - 1] : 1;
  out.tokens_per_user_s = tokens / out.step_s;
  out.tokens_per_s = sequences * out.tokens_per_user_s;
  return out;
}

double Roofline::first_token_s(int32_t prompt) const {
  double total = 0;
  for (int32_t done = 0; done < prompt; done += request_.max_num_batched_tokens) {
    const int32_t rows = std::min(request_.max_num_batched_tokens, prompt - done);
    const Batch chunk{.sequences = 1,
                      .rows = static_cast<double>(rows),
                      .context = static_cast<double>(done),
                      .prefill = true};
    double sum = 0, longest = 0;
    for (int32_t stage = 0; stage < layout_.sizes().pipeline; ++stage) {
      const double seconds = stage_s(stage, chunk);
      sum += seconds;
      longest = std::max(longest, seconds);
    }
    // The first chunk fills the pipeline; each later one follows a stage behind.
    total += done == 0 ? sum : longest;
  }
  return total / efficiency_.kernels;
}

}  // namespace gantry

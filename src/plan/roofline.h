// Predicted speed of a layout: per operation the larger of bytes over bandwidth and operations over rate,
// summed over a layer's dependent operations. Communication is a latency and bytes over the link.
#pragma once

#include <cstdint>
#include <vector>

#include "plan/memory_plan.h"

namespace gantry {

class Roofline {
 public:
  // All outlive this.
  Roofline(const PlannedModel& model, const ParallelLayout& layout, const PlanRequest& request,
           const Efficiency& efficiency);

  // Rows of one step: `sequences` with `rows` new tokens each after `context` tokens.
  struct Batch {
    double sequences = 1;
    double rows = 1;
    double context = 0;
    bool prefill = false;  // MLA: attention is not absorbed
  };
  // Seconds that one layer of the stage takes; `layer` counts from the stage's first. Without Efficiency's
  // kernels.
  double layer_s(int32_t stage, int32_t layer, const Batch& batch) const;
  // Seconds of a stage, its head and, where drafts are made, its MTP module included.
  double stage_s(int32_t stage, const Batch& batch) const;

  struct Decode {
    int32_t sequences = 0;
    int32_t context = 0;
    double step_s = 0;        // from one token of a sequence to the next
    double tokens_per_s = 0;  // all sequences
    double tokens_per_user_s = 0;
  };
  Decode decode(int32_t sequences, int32_t context) const;
  // Seconds from a lone prompt's start to its first token, in chunks of max_num_batched_tokens.
  double first_token_s(int32_t prompt) const;

 private:
  // One rank's share of a layer.
  struct LayerWork {
    double attention_bytes = 0, attention_weights = 0;
    double gate_bytes = 0, gate_weights = 0;
    double dense_bytes = 0, dense_weights = 0;  // or of the shared experts
    double expert_bytes = 0,
           expert_weights = 0;  // of all routed experts that the rank holds, whole or sliced
  };
  struct StageWork {
    std::vector<LayerWork> layers;
    LayerWork mtp;
    double projection_bytes = 0, projection_weights = 0;  // the MTP module's eh_proj
    double head_bytes = 0, head_weights = 0;
    double mtp_head_bytes = 0, mtp_head_weights = 0;
  };

  void add(const CheckpointTensor& tensor, const TensorSlice& slice, StageWork& stage) const;
  double work_s(const LayerWork& work, const Batch& batch) const;
  double op_s(double bytes, double quantized_flops, double bf16_flops) const;
  double exchange_s(double rows) const;

  const PlannedModel& model_;
  const ParallelLayout& layout_;
  const PlanRequest& request_;
  const Efficiency& efficiency_;
  std::vector<StageWork> stages_;
};

}  // namespace gantry

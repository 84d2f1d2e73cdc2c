// How the memory of each rank is spent, and how many requests that leaves room for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/checkpoint_tensors.h"
#include "model/parallel_layout.h"
#include "plan/device_spec.h"

namespace gantry {

// A model as a plan sees it.
struct PlannedModel {
  std::string name;
  ModelConfig config;
  WeightFormat format;
  std::vector<CheckpointTensor> tensors;

  // Of the tensors in the checkpoint, with or without the MTP modules.
  struct Total {
    uint64_t bytes = 0;
    int64_t tensors = 0;
    int64_t parameters = 0;  // scales not counted
  };
  Total total(bool with_mtp) const;
};

struct PlanRequest {
  ParallelSizes sizes;
  DeviceSpec device;
  double memory_utilization = 0.92;  // the share of a device's memory that the replica may use
  int32_t max_model_len = 0;         // in [1, the checkpoint's]
  int32_t max_num_seqs = 0;
  int32_t max_num_batched_tokens = 0;
  DType kv_dtype = DType::kBF16;  // kF8E4M3: one byte a value
  int32_t speculative_tokens = 0;
  int32_t hosts = 1;         // which have as many stages each
  bool cuts_blocks = false;  // as ranks of the CPU may: a slice may cut a block of scales
};

// A rank of one pipeline stage; all ranks of a stage need the same.
struct StagePlan {
  LayerRange layers;
  uint64_t weight_bytes = 0;      // its slices of the checkpoint
  int64_t absorbed_bytes = 0;     // what W_UK and W_UV in bf16 take beyond the kv_b_proj they replace
  uint64_t activation_bytes = 0;  // an estimate
  uint64_t kv_token_bytes = 0;
  uint64_t budget_bytes = 0;    // device memory x utilisation
  int64_t kv_budget_bytes = 0;  // what is left for the KV cache; negative: the weights do not fit
  int64_t blocks = 0;           // that fit
};

struct MemoryPlan {
  std::vector<StagePlan> stages;
  int64_t blocks = 0;               // the minimum over stages
  int64_t request_blocks = 0;       // of one request of max_model_len
  int64_t requests_of_max_len = 0;  // that fit together

  bool fits() const { return requests_of_max_len >= 1; }
};

// Device memory that a process uses before any weight: context, NCCL's buffers, graphs. An assumption.
inline constexpr uint64_t kDeviceReserveBytes = 2ull << 30;

MemoryPlan plan_memory(const PlannedModel& model, const ParallelLayout& layout, const PlanRequest& request);

// Bytes of KV cache per token on a rank of a stage with this many layers, the MTP module's included.
uint64_t kv_token_bytes(const ModelConfig& config, const ParallelLayout& layout, int32_t layers, DType dtype);

}  // namespace gantry

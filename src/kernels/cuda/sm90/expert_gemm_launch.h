// Host side of the grouped expert GEMMs (expert_gemm.h).
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "base/status.h"
#include "kernels/cuda/sm90/expert_gemm.h"
#include "kernels/cuda/sm90/routing.h"

namespace gantry::sm90 {

struct ExpertWeights {
  const uint8_t* gate_up = nullptr;      // e4m3 [experts, 2 * intermediate, hidden], gate first
  const float* gate_up_scale = nullptr;  // [experts, 2 * intermediate / 128, hidden / 128]
  const uint8_t* down = nullptr;         // e4m3 [experts, hidden, intermediate]
  const float* down_scale = nullptr;     // [experts, hidden / 128, intermediate / 128]
};

struct ExpertGemmArgs {
  ExpertShape shape;
  ExpertConfig config;
  ExpertWeights weights;
  Routing routing;
  // gate_up's input: all B rows, or the slots that launch_permute filled; its scales [hidden / 128, stride].
  const uint8_t* x = nullptr;
  int x_rows_max = 0;
  const float* x_scale = nullptr;
  int x_scale_stride = 0;
  uint8_t* h = nullptr;                             // [slots_max, intermediate] e4m3
  float* h_scale = nullptr;                         // [intermediate / 128, h_scale_stride]
  int h_scale_stride = 0;                           // >= slots_max, a multiple of 4
  __nv_bfloat16* y = nullptr;                       // [slots_max, hidden]
  float* partial = nullptr;                         // [stream_partial_floats]
  CUtensorMap gate_up_map, x_map, down_map, h_map;  // set by plan_expert_gemm
};

Status plan_expert_gemm(ExpertGemmArgs& args);
Status launch_expert_gate_up(const ExpertGemmArgs& args, int sm_count, cudaStream_t stream);
// Directly after launch_expert_gate_up on the stream: it starts on the work list before gate_up ends.
Status launch_expert_down(const ExpertGemmArgs& args, int sm_count, cudaStream_t stream);

}  // namespace gantry::sm90

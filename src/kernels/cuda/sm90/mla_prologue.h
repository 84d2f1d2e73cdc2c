// Between MLA's projections and its attention, for decode: rope on the queries' last 64 values, and the
// step's cache row: RMSNorm of the 512 latents, rope on k_pe, both to bf16 (model.md, MLA).
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "base/status.h"

namespace gantry::sm90 {

struct MlaPrologueArgs {
  const __nv_bfloat16* q_b = nullptr;  // [B, heads, q_nope + 64]
  int q_nope = 0;
  const __nv_bfloat16* kv_a = nullptr;  // [B, kv_stride]: 512 latents, 64 of k_pe
  int kv_stride = 0;
  const float* kv_weight = nullptr;  // [512]
  float eps = 1e-6f;
  const float* cos = nullptr;  // [B, 32], pairs (2 i, 2 i + 1)
  const float* sin = nullptr;
  const int32_t* block_table = nullptr;  // [B, table_stride]
  int table_stride = 0;
  const int32_t* lengths = nullptr;  // [B], this token included: it lies at lengths - 1
  int rows = 0;
  int heads = 0;
  __nv_bfloat16* q = nullptr;      // [B, heads, 576]: columns 512 .. 575 are written
  __nv_bfloat16* cache = nullptr;  // [blocks, 64, 576]
};

Status launch_mla_prologue(const MlaPrologueArgs& args, cudaStream_t stream);

}  // namespace gantry::sm90

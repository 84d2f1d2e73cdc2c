// Host side of MLA decode attention (mla_decode.h).
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "base/status.h"
#include "kernels/cuda/sm90/mla_decode.h"

namespace gantry::sm90 {

struct MlaDecodeArgs {
  MlaDecodeShape shape{};
  MlaDecodeConfig config{};
  const __nv_bfloat16* q = nullptr;      // [batch, heads, 576]
  const __nv_bfloat16* cache = nullptr;  // [cache_blocks, 64, 576]
  int64_t cache_blocks = 0;
  const int32_t* block_table = nullptr;  // [batch, table_stride]
  int table_stride = 0;
  const int32_t* table_of = nullptr;  // [batch] which row of block_table; null: the same
  const int32_t* lengths = nullptr;   // [batch] tokens visible, >= 1
  float scale = 0;
  float* partial = nullptr;          // [splits, batch, heads, 512], with splits > 1
  float* partial_lse = nullptr;      // [splits, batch, heads], base 2
  __nv_bfloat16* out = nullptr;      // [batch, heads, 512]
  CUtensorMap q_map{}, cache_map{};  // set by plan_mla_decode
};

Status plan_mla_decode(MlaDecodeArgs& args);
Status launch_mla_decode(const MlaDecodeArgs& args, cudaStream_t stream);

}  // namespace gantry::sm90

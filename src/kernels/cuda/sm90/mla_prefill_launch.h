// Host side of MLA prefill attention (mla_prefill.h).
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <span>

#include "base/status.h"
#include "kernels/cuda/sm90/mla_prefill.h"

namespace gantry::sm90 {

// Rows of one sequence; row i of it is at position first_position + i and sees positions 0 .. its own.
struct MlaPrefillSequence {
  int32_t first_row = 0;  // of q and out
  int32_t rows = 0;
  int32_t first_position = 0;
  int32_t table = 0;      // row of block_table
  int32_t first_key = 0;  // of the keys: a multiple of kMlaPrefillTile, in order, without gaps
};
inline constexpr int kMlaPrefillSequences = 64;  // of one launch

struct MlaPrefillArgs {
  MlaPrefillConfig config{};
  int heads = 0;
  std::span<const MlaPrefillSequence> sequences{};  // at most kMlaPrefillSequences; on the host
  int64_t keys = 0;                                 // of all of them, mla_prefill_keys() each
  const __nv_bfloat16* q = nullptr;                 // [q_rows, heads, 192], rope applied
  int64_t q_rows = 0;
  const __nv_bfloat16* cache = nullptr;  // [blocks, 64, 576]: latents and roped keys, the new rows' too
  const int32_t* block_table = nullptr;  // [tables, table_stride]
  int table_stride = 0;
  const __nv_bfloat16* w_uk = nullptr;  // [heads, 512, 128]
  const __nv_bfloat16* w_uv = nullptr;  // [heads, 128, 512]
  float scale = 0;
  __nv_bfloat16* latents = nullptr;  // workspace [keys, 576]
  __nv_bfloat16* k = nullptr;        // workspace [config.heads, keys, 128]
  __nv_bfloat16* v = nullptr;        // likewise
  float* out = nullptr;              // [q_rows, heads, 128]
};
Status launch_mla_prefill(const MlaPrefillArgs& args, int sm_count, cudaStream_t stream);

// Rope in place on the last kMlaPrefillRope values of each head of rows first_row .. first_row + rows - 1.
struct MlaPrefillRopeArgs {
  __nv_bfloat16* q = nullptr;  // [rows, heads, 192], of the first row
  int64_t rows = 0;
  int heads = 0;
  const float* cos = nullptr;  // [rows, 32]
  const float* sin = nullptr;
  bool interleaved = false;  // pairs (2 i, 2 i + 1); else (i, i + 32)
};
Status launch_mla_prefill_rope(const MlaPrefillRopeArgs& args, cudaStream_t stream);

}  // namespace gantry::sm90

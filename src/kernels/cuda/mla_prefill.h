// R1's attention of a step whose segments are of both phases: long ones attend with keys of every head
// (sm90/mla_prefill.h), all others, row by row, to the latents (sm90/mla_decode.h).
#pragma once

#include <cuda_bf16.h>

#include <span>

#include "kernels/cuda/sm90/mla_decode.h"
#include "kernels/cuda/sm90/mla_prefill.h"
#include "kernels/cuda/state.h"
#include "kernels/ops/args.h"

namespace gantry::cuda {

struct PrefillHeads {
  int32_t heads = 0;
  int32_t nope = 0;
  int32_t rope_dim = 0;
};
PrefillHeads prefill_heads(const MlaAttendArgs& args);

// Rows that one kernel takes: one segment of prefill, or neighbouring segments of decode.
struct RowRun {
  int64_t first_row = 0;
  int64_t rows = 0;
  bool prefill = false;
};

inline bool is_prefill(const Segment& segment, const PrefillHeads& dims) {
  return dims.nope == sm90::kMlaPrefillNope && dims.rope_dim == sm90::kMlaPrefillRope &&
         sm90::takes_mla_prefill(segment.rows, int64_t{segment.first_position} + segment.rows);
}

template <typename Visit>
void for_each_run(std::span<const Segment> segments, const PrefillHeads& dims, const Visit& visit) {
  RowRun run;
  for (const Segment& segment : segments) {
    if (!is_prefill(segment, dims)) {
      if (run.rows == 0) run.first_row = segment.first_row;
      run.rows += segment.rows;
      continue;
    }
    if (run.rows > 0) visit(run);
    visit(RowRun{segment.first_row, segment.rows, true});
    run = {};
  }
  if (run.rows > 0) visit(run);
}

// mla_project leaves the absorbed queries [rows, heads, 576] in bf16 in the first half of MlaProjectArgs::q, and those
// that q_b made, [rows, heads, nope + rope], in the second.
inline __nv_bfloat16* plain_queries(float* q, int64_t rows, int64_t heads) {
  return reinterpret_cast<__nv_bfloat16*>(q) + rows * heads * sm90::kMlaKey;
}

// Rope on the plain queries of the run's rows.
Status rope_prefill_queries(State& state, __nv_bfloat16* q, RowRun run, const MlaProjectArgs& args);

// Attention of the segments of prefill, with the scratch to itself.
Status prefill_attention(State& state, std::span<std::byte> scratch, const MlaAttendArgs& args);
size_t prefill_attention_bytes(const ScratchSpec& spec);

}  // namespace gantry::cuda

#include "kernels/cpu/moe.h"

#include <algorithm>

#include "kernels/cpu/dense.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/swiglu.h"
#include "kernels/cpu/weight_layout.h"
#include "kernels/ops/gate.h"

namespace gantry::cpu {
namespace {

// Rows that are routed together; bounds the scratch for their experts_per_token hidden vectors.
constexpr int64_t kRowsRouted = 256;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Which (row, expert) pairs there are of the experts here, grouped by expert, rows ascending. Experts count from the
// first one here.
struct Routing {
  int32_t* first_pair;  // [experts + 1]
  int32_t* hit;         // [experts] experts with rows, ascending
  int32_t hits;
  int32_t pairs;
  int32_t* row;   // [pairs]
  float* weight;  // [pairs]
};

struct Picks {
  int32_t* ids;    // [rows, experts_per_token], ascending in a row
  float* weights;  // [rows, experts_per_token]
};

// logits [rows, experts] and the rows' experts.
Picks pick_experts(const OpContext& context, Scratch& scratch, const MoeArgs& args, const float* normed,
                   int64_t rows) {
  const int64_t experts = args.gate.experts, top = args.gate.experts_per_token;
  Picks picks{scratch.take<int32_t>(rows * top), scratch.take<float>(rows * top)};
  float* logits = scratch.take<float>(rows * experts);
  float* scores = scratch.take<float>(context.pool->size() * experts);
  const RowSource source{.x = normed, .rows = rows, .cols = args.hidden, .stride = args.hidden};
  linear(context, prepare_rows(context, scratch, source, *args.gate_weight), *args.gate_weight,
         {.data = logits, .stride = experts});
  context.pool->parallel_for(rows, 8, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t r = begin; r < end; ++r) {
      gate_select(args.gate, logits + r * experts, args.gate_bias, scores + thread * experts,
                  {picks.ids + r * top, static_cast<size_t>(top)},
                  {picks.weights + r * top, static_cast<size_t>(top)});
    }
  });
  return picks;
}

Routing group_by_expert(Scratch& scratch, const Picks& picks, int64_t rows, const MoeArgs& args) {
  const int64_t top = args.gate.experts_per_token;
  const auto experts = static_cast<int32_t>(args.gate_up->batch);
  Routing routing{.first_pair = scratch.take<int32_t>(experts + 1),
                  .hit = scratch.take<int32_t>(experts),
                  .hits = 0,
                  .pairs = 0,
                  .row = scratch.take<int32_t>(rows * top),
                  .weight = scratch.take<float>(rows * top)};
  const auto expert_here = [&](int64_t pick) {
    const int32_t e = picks.ids[pick] - args.first_expert;
    return e >= 0 && e < experts ? e : -1;
  };
  std::fill_n(routing.first_pair, experts + 1, 0);
  for (int64_t i = 0; i < rows * top; ++i) {
    if (const int32_t e = expert_here(i); e >= 0) ++routing.first_pair[e + 1];
  }
  for (int32_t e = 0; e < experts; ++e) {
    if (routing.first_pair[e + 1] > 0) routing.hit[routing.hits++] = e;
    routing.first_pair[e + 1] += routing.first_pair[e];
  }
  routing.pairs = routing.first_pair[experts];
  int32_t* next = scratch.take<int32_t>(experts);
  std::copy_n(routing.first_pair, experts, next);
  for (int64_t i = 0; i < rows * top; ++i) {
    const int32_t e = expert_here(i);
    if (e < 0) continue;
    const int32_t pair = next[e]++;
    routing.row[pair] = static_cast<int32_t>(i / top);
    routing.weight[pair] = picks.weights[i];
  }
  return routing;
}

void run_experts(const OpContext& context, Scratch& scratch, const MoeArgs& args, const LinearInput& x,
                 const Routing& routing, float* out) {
  const MicroKernels& micro = micro_of(context);
  const int64_t width = args.down->cols;
  if (routing.pairs == 0) return;
  const LinearInput h = take_rows(scratch, micro, *args.down, routing.pairs);
  float* threads_scratch = scratch.take<float>(context.pool->size() * kSwigluScratch);

  const int64_t units = swiglu_units(width);
  const int64_t units_per_chunk = std::max<int64_t>(1, units * routing.hits / (8 * context.pool->size()));
  const int64_t chunks = ceil_div(units, std::min(units_per_chunk, units));
  const int64_t chunk_units = ceil_div(units, chunks);
  context.pool->parallel_for(routing.hits * chunks, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; ++i) {
      const int32_t e = routing.hit[i / chunks];
      const int64_t first_unit = i % chunks * chunk_units;
      if (first_unit >= units) continue;
      run_swiglu(micro, x, *args.gate_up, h,
                 {.entry = e,
                  .first_unit = first_unit,
                  .units = std::min(chunk_units, units - first_unit),
                  .first_row = routing.first_pair[e],
                  .rows = routing.first_pair[e + 1] - routing.first_pair[e],
                  .x_rows = routing.row,
                  .scratch = threads_scratch + thread * kSwigluScratch});
    }
  });

  finish_rows(context, h);

  // A chunk holds columns of the output, and adds all experts to them in order of expert index.
  const int64_t panels = panel_count(args.hidden);
  const int64_t chunk_panels = std::max<int64_t>(1, panels / (8 * context.pool->size()));
  context.pool->parallel_for(ceil_div(panels, chunk_panels), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i * chunk_panels;
      for (int32_t hit = 0; hit < routing.hits; ++hit) {
        const int32_t e = routing.hit[hit];
        run_piece(micro, h, *args.down,
                  {.entry = e,
                   .first_panel = first,
                   .panels = std::min(chunk_panels, panels - first),
                   .first_row = routing.first_pair[e],
                   .rows = routing.first_pair[e + 1] - routing.first_pair[e],
                   .out = out + first * kPanelRows,
                   .out_stride = args.hidden,
                   .out_rows = routing.row,
                   .row_scale = routing.weight,
                   .accumulate = true});
      }
    }
  });
}

}  // namespace

void moe(const OpContext& context, const MoeArgs& args) {
  const int64_t hidden = args.hidden;
  float* normed = args.workspace;  // [R, H]
  for (int64_t first = 0; first < args.rows; first += kRowsRouted) {
    const int64_t rows = std::min(kRowsRouted, args.rows - first);
    Scratch scratch(context.scratch);
    const RowSource source{.x = args.x + first * hidden,
                           .rows = rows,
                           .cols = hidden,
                           .stride = hidden,
                           .norm = args.norm,
                           .normed = normed + first * hidden};
    const LinearInput x = prepare_rows(context, scratch, source, *args.gate_up);
    const Picks picks = pick_experts(context, scratch, args, normed + first * hidden, rows);
    const Routing routing = group_by_expert(scratch, picks, rows, args);
    run_experts(context, scratch, args, x, routing, args.out + first * hidden);
  }
  if (args.shared_gate_up != nullptr) {
    mlp(context, {.x = normed,
                  .rows = args.rows,
                  .gate_up = args.shared_gate_up,
                  .down = args.shared_down,
                  .workspace = normed + args.rows * hidden,
                  .out = args.out,
                  .accumulate = true});
  }
}

size_t moe_scratch_bytes(const ScratchSpec& spec) {
  if (spec.experts == 0) return 0;
  const int64_t rows = std::min(spec.rows_max, kRowsRouted);
  const int64_t pairs = rows * spec.experts_per_token;
  return prepare_rows_bytes(rows, spec.width_max, spec.threads) + 2 * Scratch::size_of<int32_t>(pairs) +
         2 * Scratch::size_of<float>(pairs) + Scratch::size_of<float>(rows * spec.experts) +
         Scratch::size_of<float>(spec.threads * spec.experts) +
         3 * Scratch::size_of<int32_t>(spec.experts + 1) + take_rows_bytes(pairs, spec.expert_width) +
         Scratch::size_of<float>(spec.threads * kSwigluScratch);
}

}  // namespace gantry::cpu

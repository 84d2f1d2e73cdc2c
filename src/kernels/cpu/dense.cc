#include "kernels/cpu/dense.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/kv_cache.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/swiglu.h"
#include "kernels/cpu/weight_layout.h"
#include "tensor/convert.h"

namespace gantry::cpu {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Calls f(first_row, rows) for turns of at most kRowsPerTurn rows.
template <typename F>
void in_turns(int64_t rows, const F& f) {
  for (int64_t first = 0; first < rows; first += kRowsPerTurn) f(first, std::min(kRowsPerTurn, rows - first));
}

// One turn of qkv_project.
struct QkvTurn {
  const MicroKernels& micro;
  const QkvProjectArgs& args;
  const LinearInput& input;
  const KvSlot* slots;
  int64_t first_row;
  int64_t width() const { return int64_t{args.heads + 2 * args.kv_heads} * args.head_dim; }
  float* qkv(int64_t row, int64_t head) const {
    return args.qkv + (first_row + row) * width() + head * args.head_dim;
  }

  // Rotates and delivers rows of `head`, 0 .. heads + 2 kv_heads: q, k and v in this order.
  void deliver(int64_t head, int64_t from, int64_t to) const {
    const RopeRows& rope = args.rope;
    for (int64_t r = from; r < to; ++r) {
      float* x = qkv(r, head);
      const int64_t row = first_row + r;
      if (head < args.heads + args.kv_heads) {
        micro.rope(rope.cos + row * rope.pairs, rope.sin + row * rope.pairs, rope.pairs, rope.interleaved, x);
      }
      if (head < args.heads) {
        std::memcpy(args.q + (row * args.heads + head) * args.head_dim, x,
                    static_cast<size_t>(args.head_dim) * sizeof(float));
      } else if (head < args.heads + args.kv_heads) {
        store_key(micro, args.kv, slots[r], static_cast<int32_t>(head - args.heads), x);
      } else {
        store_value(micro, args.kv, slots[r], static_cast<int32_t>(head - args.heads - args.kv_heads), x);
      }
    }
  }

  // A head's outputs are whole panels of one part.
  bool heads_are_panels() const {
    if (args.head_dim % kPanelRows != 0) return false;
    for (int i = 0; i < args.weight->part_count; ++i) {
      if (args.weight->parts[static_cast<size_t>(i)].rows % args.head_dim != 0) return false;
    }
    return true;
  }

  void project(int64_t head, int64_t from, int64_t to) const {
    int64_t column = head * args.head_dim;
    int part = 0;
    while (column >= args.weight->parts[static_cast<size_t>(part)].rows) {
      column -= args.weight->parts[static_cast<size_t>(part++)].rows;
    }
    run_piece(micro, input, *args.weight,
              {.part = part,
               .first_panel = column / kPanelRows,
               .panels = args.head_dim / kPanelRows,
               .first_row = from,
               .rows = to - from,
               .out = qkv(from, head),
               .out_stride = width()});
  }
};

constexpr int64_t kQkvRows = 64;  // rows of a head in one chunk: their outputs are rotated while in the cache

}  // namespace

void embed(const OpContext& context, const EmbedArgs& args) {
  const int64_t hidden = args.table.shape[1];
  const auto rows = static_cast<int64_t>(args.ids.size());
  context.pool->parallel_for(rows, 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      dequantize(args.table, args.ids[static_cast<size_t>(r)] * hidden,
                 {args.out + r * hidden, static_cast<size_t>(hidden)});
    }
  });
}

void norm(const OpContext& context, const NormArgs& args) {
  const MicroKernels& micro = micro_of(context);
  context.pool->parallel_for(args.rows, 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t row = args.index != nullptr ? args.index[r] : r;
      micro.rms_norm(args.x + row * args.width, args.norm.weight, args.norm.eps, args.width,
                     args.out + r * args.out_stride);
    }
  });
}

void norm_linear(const OpContext& context, const NormLinearArgs& args) {
  const PackedWeight& weight = *args.weight;
  in_turns(args.rows, [&](int64_t first, int64_t rows) {
    Scratch scratch(context.scratch);
    const RowSource source{.x = args.x + first * weight.cols,
                           .rows = rows,
                           .cols = weight.cols,
                           .stride = weight.cols,
                           .norm = args.norm};
    const LinearInput input = prepare_rows(context, scratch, source, weight);
    linear(context, input, weight,
           {.data = args.out + first * weight.rows, .stride = weight.rows, .accumulate = args.accumulate});
  });
}

void qkv_project(const OpContext& context, const QkvProjectArgs& args) {
  const MicroKernels& micro = micro_of(context);
  const int64_t hidden = args.weight->cols;
  const int64_t heads = args.heads + 2 * args.kv_heads;
  in_turns(args.rows, [&](int64_t first, int64_t rows) {
    Scratch scratch(context.scratch);
    KvSlot* slots = scratch.take<KvSlot>(rows);
    find_slots(args.segments, first, rows, slots);
    const RowSource source{
        .x = args.x + first * hidden, .rows = rows, .cols = hidden, .stride = hidden, .norm = args.norm};
    const LinearInput input = prepare_rows(context, scratch, source, *args.weight);
    const QkvTurn turn{micro, args, input, slots, first};
    const int64_t row_chunks = ceil_div(rows, kQkvRows);
    const bool fused = turn.heads_are_panels();
    if (!fused) {
      linear(context, input, *args.weight,
             {.data = turn.qkv(0, 0), .stride = turn.width(), .accumulate = false});
    }
    context.pool->parallel_for(heads * row_chunks, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t chunk = begin; chunk < end; ++chunk) {
        const int64_t head = chunk / row_chunks;
        const int64_t from = chunk % row_chunks * kQkvRows, to = std::min(from + kQkvRows, rows);
        if (fused) turn.project(head, from, to);
        turn.deliver(head, from, to);
      }
    });
  });
}

void mlp(const OpContext& context, const MlpArgs& args) {
  const MicroKernels& micro = micro_of(context);
  const int64_t hidden = args.gate_up->cols, width = args.down->cols, out_width = args.down->rows;
  in_turns(args.rows, [&](int64_t first, int64_t rows) {
    Scratch scratch(context.scratch);
    const RowSource source{
        .x = args.x + first * hidden, .rows = rows, .cols = hidden, .stride = hidden, .norm = args.norm};
    const LinearInput input = prepare_rows(context, scratch, source, *args.gate_up);
    const LinearInput h = take_rows(scratch, micro, *args.down, rows);
    float* threads_scratch = scratch.take<float>(context.pool->size() * kSwigluScratch);
    const int64_t units = swiglu_units(width);
    const Chunking chunking = choose_chunks({.panels = units,
                                             .panel_bytes = static_cast<int64_t>(args.gate_up->bytes) / units,
                                             .rows = rows,
                                             .threads = context.pool->size()});
    const int64_t row_chunks = ceil_div(rows, chunking.rows);
    context.pool->parallel_for(ceil_div(units, chunking.panels) * row_chunks, 1,
                               [&](int64_t begin, int64_t end, int thread) {
                                 for (int64_t chunk = begin; chunk < end; ++chunk) {
                                   const int64_t first_unit = chunk / row_chunks * chunking.panels;
                                   const int64_t first_row = chunk % row_chunks * chunking.rows;
                                   run_swiglu(micro, input, *args.gate_up, h,
                                              {.first_unit = first_unit,
                                               .units = std::min(chunking.panels, units - first_unit),
                                               .first_row = first_row,
                                               .rows = std::min(chunking.rows, rows - first_row),
                                               .scratch = threads_scratch + thread * kSwigluScratch});
                                 }
                               });
    finish_rows(context, h);
    linear(context, h, *args.down,
           {.data = args.out + first * out_width, .stride = out_width, .accumulate = args.accumulate});
  });
}

void head(const OpContext& context, const HeadArgs& args) {
  const PackedWeight& weight = *args.weight;
  in_turns(static_cast<int64_t>(args.rows.size()), [&](int64_t first, int64_t rows) {
    Scratch scratch(context.scratch);
    const RowSource source{.x = args.x,
                           .rows = rows,
                           .cols = weight.cols,
                           .stride = weight.cols,
                           .index = args.rows.data() + first,
                           .norm = args.norm};
    const LinearInput input = prepare_rows(context, scratch, source, weight);
    linear(context, input, weight,
           {.data = args.out + first * weight.rows, .stride = weight.rows, .accumulate = false});
  });
}

size_t dense_scratch_bytes(const ScratchSpec& spec) {
  const int64_t rows = std::min(spec.rows_max, kRowsPerTurn);
  return Scratch::size_of<KvSlot>(rows) + prepare_rows_bytes(rows, spec.width_max, spec.threads) +
         take_rows_bytes(rows, spec.width_max) + Scratch::size_of<float>(spec.threads * kSwigluScratch);
}

}  // namespace gantry::cpu

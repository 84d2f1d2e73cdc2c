#include "kernels/cpu/mla.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/attention_core.h"
#include "kernels/cpu/kv_cache.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/weight_layout.h"

namespace gantry::cpu {
namespace {

constexpr int64_t kHeadRows = 16;      // of a segment whose keys one thread finishes
constexpr int64_t kRowsPerHeads = 64;  // rows of all heads in one turn, which bounds their scratch

struct LinearRows {
  const float* x;
  int64_t stride;
  int64_t rows;
  Norm norm;
  const PackedWeight* weight;
  float* out;
};
void norm_linear_rows(const OpContext& context, const LinearRows& l) {
  for (int64_t first = 0; first < l.rows; first += kRowsPerTurn) {
    const int64_t rows = std::min(kRowsPerTurn, l.rows - first);
    Scratch scratch(context.scratch);
    const RowSource source{.x = l.x + first * l.stride,
                           .rows = rows,
                           .cols = l.weight->cols,
                           .stride = l.stride,
                           .norm = l.norm};
    const LinearInput input = prepare_rows(context, scratch, source, *l.weight);
    linear(context, input, *l.weight,
           {.data = l.out + first * l.weight->rows, .stride = l.weight->rows, .accumulate = false});
  }
}

// out[r, h] = W[h] x[r, h] for every head h: x [rows, heads] vectors of W's columns, x_stride floats apart, out
// [rows, heads], out_stride apart.
struct HeadLinear {
  const float* x;
  int64_t x_stride;
  int64_t rows;
  const PackedWeight* weight;  // batch = heads
  float* out;
  int64_t out_stride;
};
void head_linear(const OpContext& context, const HeadLinear& l) {
  const MicroKernels& micro = micro_of(context);
  const int64_t heads = l.weight->batch, panels = panel_count(l.weight->rows);
  for (int64_t first = 0; first < l.rows; first += kRowsPerHeads) {
    const int64_t rows = std::min(kRowsPerHeads, l.rows - first);
    Scratch scratch(context.scratch);
    const RowSource source{.x = l.x + first * heads * l.x_stride,
                           .rows = rows * heads,
                           .cols = l.weight->cols,
                           .stride = l.x_stride};
    const LinearInput vectors = prepare_rows(context, scratch, source, *l.weight);
    context.pool->parallel_for(heads, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t head = begin; head < end; ++head) {
        LinearInput input = vectors;
        for (int kind = 0; kind < kActivationKinds; ++kind) {
          if (input.data[kind] != nullptr) input.data[kind] += head * input.stride[kind];
          input.stride[kind] *= heads;
        }
        run_piece(micro, input, *l.weight,
                  {.entry = head,
                   .panels = panels,
                   .rows = rows,
                   .out = l.out + (first * heads + head) * l.out_stride,
                   .out_stride = heads * l.out_stride});
      }
    });
  }
}

}  // namespace

void mla_project(const OpContext& context, const MlaProjectArgs& args) {
  const MicroKernels& micro = micro_of(context);
  const int64_t hidden = args.q_a_kv_a->cols;
  const int64_t a_width = int64_t{args.q_lora} + args.latent + args.rope_dim;
  const int64_t head_width = int64_t{args.nope} + args.rope_dim;
  const int64_t key_width = int64_t{args.latent} + args.rope_dim;
  float* a = args.workspace;             // [R, q_lora + latent + rope]
  float* q_b = a + args.rows * a_width;  // [R, heads, nope + rope]

  norm_linear_rows(context, {args.x, hidden, args.rows, args.norm, args.q_a_kv_a, a});
  if (args.q_lora > 0) {
    norm_linear_rows(context, {a, a_width, args.rows, args.q_a_norm, args.q_b, q_b});
  } else {
    norm_linear_rows(context, {args.x, hidden, args.rows, args.norm, args.q_b, q_b});
  }

  const auto rotate = [&](int64_t row, float* x) {
    const RopeRows& rope = args.rope;
    micro.rope(rope.cos + row * rope.pairs, rope.sin + row * rope.pairs, rope.pairs, rope.interleaved, x);
  };
  for (const Segment& segment : args.segments) {
    context.pool->parallel_for(segment.rows, kHeadRows, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = segment.first_row + i;
        float* key = a + row * a_width + args.q_lora;  // [latent; rope]
        if (args.kv_a_norm.weight != nullptr) {
          micro.rms_norm(key, args.kv_a_norm.weight, args.kv_a_norm.eps, args.latent, key);
        }
        rotate(row, key + args.latent);
        KvSlot slot;
        find_slots(std::span<const Segment>(&segment, 1), row, 1, &slot);
        store_key(micro, args.kv, slot, 0, key);
      }
    });
  }
  head_linear(context, {q_b, head_width, args.rows, args.w_uk, args.q, key_width});
  context.pool->parallel_for(args.rows * args.heads, 64, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      float* head_q = q_b + i * head_width + args.nope;
      rotate(i / args.heads, head_q);
      std::memcpy(args.q + i * key_width + args.latent, head_q,
                  static_cast<size_t>(args.rope_dim) * sizeof(float));
    }
  });
}

void mla_attend(const OpContext& context, const MlaAttendArgs& args) {
  attention(context, {.q = args.q,
                      .rows = args.rows,
                      .heads = args.heads,
                      .value_dim = args.latent,
                      .scale = args.scale,
                      .segments = args.segments,
                      .kv = args.kv,
                      .out = args.attended});
  head_linear(context, {args.attended, args.latent, args.rows, args.w_uv, args.out, args.value_dim});
}

size_t mla_scratch_bytes(const ScratchSpec& spec) {
  const int64_t vectors = std::min(spec.rows_max, kRowsPerHeads) * spec.heads;
  return prepare_rows_bytes(vectors, spec.head_dim_max, spec.threads);
}

}  // namespace gantry::cpu

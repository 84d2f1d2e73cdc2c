#include "kernels/cpu/mla.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/attention_core.h"
#include "kernels/cpu/kv_cache.h"
#include "kernels/cpu/linear.h"

namespace gantry::cpu {
namespace {

constexpr int64_t kHeadRows = 16;  // rows that pass while a head's matrix stays in the L2 cache

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

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
    const LinearInput input = prepare_rows(context, scratch, source, kinds_of(micro_of(context), *l.weight));
    linear(context, input, *l.weight,
           {.data = l.out + first * l.weight->rows, .stride = l.weight->rows, .accumulate = false});
  }
}

// Calls f(head, row) for every head and row, a head's rows together.
template <typename F>
void for_heads(const OpContext& context, int64_t heads, int64_t rows, const F& f) {
  const int64_t row_chunks = ceil_div(rows, kHeadRows);
  context.pool->parallel_for(heads * row_chunks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      const int64_t from = chunk % row_chunks * kHeadRows;
      for (int64_t row = from; row < std::min(from + kHeadRows, rows); ++row) f(chunk / row_chunks, row);
    }
  });
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
  for_heads(context, args.heads, args.rows, [&](int64_t head, int64_t row) {
    float* head_q = q_b + (row * args.heads + head) * head_width;
    float* q = args.q + (row * args.heads + head) * key_width;
    micro.dot_rows(args.w_uk + head * args.latent * args.nope, args.latent, args.nope, head_q, q);
    rotate(row, head_q + args.nope);
    std::memcpy(q + args.latent, head_q + args.nope, static_cast<size_t>(args.rope_dim) * sizeof(float));
  });
}

void mla_attend(const OpContext& context, const MlaAttendArgs& args) {
  const MicroKernels& micro = micro_of(context);
  attention(context, {.q = args.q,
                      .rows = args.rows,
                      .heads = args.heads,
                      .value_dim = args.latent,
                      .scale = args.scale,
                      .segments = args.segments,
                      .kv = args.kv,
                      .out = args.attended});
  for_heads(context, args.heads, args.rows, [&](int64_t head, int64_t row) {
    const int64_t vector = row * args.heads + head;
    micro.dot_rows(args.w_uv + head * args.value_dim * args.latent, args.value_dim, args.latent,
                   args.attended + vector * args.latent, args.out + vector * args.value_dim);
  });
}

}  // namespace gantry::cpu

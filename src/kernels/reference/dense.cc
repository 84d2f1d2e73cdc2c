// embed, norm, norm_linear, qkv_project, mlp and head.
#include "kernels/ops/scratch.h"
#include "kernels/reference/backend.h"
#include "kernels/reference/draw.h"
#include "kernels/reference/kv.h"
#include "kernels/reference/primitives.h"
#include "tensor/convert.h"

namespace gantry::reference {

void embed(const OpContext& context, const EmbedArgs& args) {
  const int64_t hidden = args.table.shape[1];
  const auto id_of = [&](int32_t id) { return id >= 0 ? id : draw_state(context)->id(id); };
  context.pool->parallel_for(static_cast<int64_t>(args.ids.size()), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      dequantize(args.table, id_of(args.ids[static_cast<size_t>(r)]) * hidden,
                 {args.out + r * hidden, static_cast<size_t>(hidden)});
    }
  });
}

void norm(const OpContext& context, const NormArgs& args) {
  context.pool->parallel_for(args.rows, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t row = args.index != nullptr ? args.index[r] : r;
      rms_norm(args.x + row * args.width, args.norm, args.width, args.out + r * args.out_stride);
    }
  });
}

void norm_linear(const OpContext& context, const NormLinearArgs& args) {
  const PackedWeight& weight = *args.weight;
  Scratch scratch(context.scratch);
  float* row_scratch = scratch.take<float>(linear_scratch(*context.pool, weight.cols));
  Rows x{args.x, args.rows, weight.cols};
  if (args.norm.weight != nullptr) {
    float* normed = scratch.take<float>(args.rows * weight.cols);
    norm_rows(*context.pool, x, args.norm, weight.cols, normed);
    x.data = normed;
  }
  linear(*context.pool, x, weight, 0, row_scratch, {args.out, weight.rows, args.accumulate});
}

void qkv_project(const OpContext& context, const QkvProjectArgs& args) {
  const int64_t dim = args.head_dim;
  const int64_t width = (args.heads + 2 * args.kv_heads) * dim;
  norm_linear(context,
              {.x = args.x, .rows = args.rows, .norm = args.norm, .weight = args.weight, .out = args.qkv});

  for (const Segment& segment : args.segments) {
    context.pool->parallel_for(segment.rows, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = segment.first_row + i;
        const int64_t position = segment.first_position + i;
        float* qkv = args.qkv + row * width;
        float* q = args.q + row * args.heads * dim;
        for (int64_t d = 0; d < args.heads * dim; ++d) q[d] = qkv[d];
        for (int32_t h = 0; h < args.heads; ++h) rope(args.rope, row, q + h * dim);
        float* k = qkv + args.heads * dim;
        const float* v = k + args.kv_heads * dim;
        for (int32_t h = 0; h < args.kv_heads; ++h) {
          rope(args.rope, row, k + h * dim);
          write_key(args.kv, segment, position, h, k + h * dim);
          write_value(args.kv, segment, position, h, v + h * dim);
        }
      }
    });
  }
}

void mlp(const OpContext& context, const MlpArgs& args) {
  const int64_t width = args.down->cols;
  norm_linear(
      context,
      {.x = args.x, .rows = args.rows, .norm = args.norm, .weight = args.gate_up, .out = args.workspace});
  swiglu_rows(*context.pool, args.workspace, args.rows, width);
  Scratch scratch(context.scratch);
  float* row_scratch = scratch.take<float>(linear_scratch(*context.pool, width));
  linear(*context.pool, {args.workspace, args.rows, 2 * width}, *args.down, 0, row_scratch,
         {args.out, args.down->rows, args.accumulate});
}

void head(const OpContext& context, const HeadArgs& args) {
  const int64_t hidden = args.weight->cols;
  const auto rows = static_cast<int64_t>(args.rows.size());
  for (int64_t m = 0; m < rows; ++m) {
    const Rows x{args.x + args.rows[static_cast<size_t>(m)] * hidden, 1, hidden};
    norm_rows(*context.pool, x, args.norm, hidden, args.workspace + m * hidden);
  }
  Scratch scratch(context.scratch);
  float* row_scratch = scratch.take<float>(linear_scratch(*context.pool, hidden));
  linear(*context.pool, {args.workspace, rows, hidden}, *args.weight, 0, row_scratch,
         {args.out != nullptr ? args.out : draw_state(context)->logits(), args.weight->rows, false});
}

}  // namespace gantry::reference

#include "model/layers/sublayer.h"

namespace gantry {

SublayerOut sublayer_out(const Step& step) {
  if (step.tensor == nullptr) return {step.buffers->x, true};
  return {step.buffers->part, false};
}

Status end_sublayer(const Step& step) {
  if (step.tensor == nullptr) return {};
  const int64_t count = step.rows * step.hidden;
  const float* part = step.buffers->part;
  GANTRY_RETURN_IF_ERROR(step.tensor->all_reduce_sum({step.buffers->part, static_cast<size_t>(count)}));
  float* x = step.buffers->x;
  step.context.pool->parallel_for(count, 1 << 14, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) x[i] += part[i];
  });
  return {};
}

}  // namespace gantry

// What the layers of one forward pass share.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/ops/ops.h"
#include "model/activations.h"

namespace gantry {

struct Step {
  OpContext context;
  const Activations* buffers = nullptr;
  int64_t rows = 0;
  std::span<const Segment> segments;
  RopeRows rope;
};

}  // namespace gantry

// What the layers of one forward pass share.
#pragma once

#include <cstdint>
#include <span>

#include "comm/communicator.h"
#include "kernels/ops/ops.h"
#include "model/activations.h"

namespace gantry {

struct Step {
  OpContext context;
  Activations* buffers = nullptr;
  int64_t rows = 0;
  int64_t hidden = 0;
  Communicator* tensor = nullptr;  // the ranks that share each layer; null: this one has all of it
  std::span<const Segment> segments;
  RopeRows rope;
};

}  // namespace gantry

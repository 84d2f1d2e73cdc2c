// How attention and feed-forward add what they computed to the residual stream. With tensor parallelism each rank
// has a part of the sum: x += (rank 0's + rank 1's) + ..., so that x has the same bits on every rank.
#pragma once

#include "base/status.h"
#include "model/layers/step.h"

namespace gantry {

// Where the sublayer's last op writes [R, hidden]: x, to which it adds, or this rank's part.
struct SublayerOut {
  float* out = nullptr;
  bool accumulate = true;
};
SublayerOut sublayer_out(const Step& step);
// After that op. Errors are the Communicator's.
Status end_sublayer(const Step& step);

}  // namespace gantry

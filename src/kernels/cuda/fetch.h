// The first kernel of a step: fetches its inputs out of the host's page-locked memory, and puts the tokens that slots
// have drawn where ids say so.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "base/status.h"
#include "kernels/ops/backend.h"

namespace gantry::cuda {

struct FetchParams {
  const std::byte* from[kStepsAhead] = {};  // 16-byte aligned, as is `to`
  std::byte* to = nullptr;
  int64_t bytes = 0;  // a multiple of 16
  int64_t ids = 0;    // where in the bytes the ids begin
  int64_t id_count = 0;
  const int32_t* last = nullptr;  // [slots] the tokens drawn last; ids below 0 are last_drawn() of a slot
  int64_t slots = 0;
  // Which buffer is next: the device counts the steps as the host does, so that a recorded step serves for all.
  int32_t* turn = nullptr;
  int32_t* arrived = nullptr;  // blocks that have read it
};
Status launch_fetch(const FetchParams& params, cudaStream_t stream);

}  // namespace gantry::cuda

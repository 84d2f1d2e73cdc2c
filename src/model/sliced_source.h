// A checkpoint as one rank of a split model sees it: the tensors that it holds, in the shapes that it holds, of which
// only its bytes are read.
#pragma once

#include <memory>

#include "base/status.h"
#include "formats/weight_source.h"
#include "model/config.h"
#include "model/parallel_layout.h"

namespace gantry {

// The source outlives the result, which presents its names. Where a slice cuts a 128 x 128 block of FP8 in a way that
// scales of its own cannot say (it begins within a block and ends in another), the tensor comes as F32, its scales
// multiplied in. kDataLoss as a Loader's: a tensor that is not of the configuration's shape, scales that are missing.
Result<std::unique_ptr<WeightSource>> slice_weights(const WeightSource& source, const ModelConfig& config,
                                                    const ParallelLayout& layout, const RankPlace& place);

}  // namespace gantry

// Weights of a configuration's shapes without files: `--load-format dummy`, for benchmarks of speed and memory.
#pragma once

#include <memory>
#include <string>

#include "base/status.h"
#include "formats/weight_source.h"

namespace gantry {

// The folder's config.json, and its tokenizer where there is one. Values depend on the tensor's name alone:
// norms are 1, biases 0, the others have a standard deviation of 0.02, as models have before training.
Result<std::unique_ptr<WeightSource>> open_dummy_weights(const std::string& folder);

}  // namespace gantry

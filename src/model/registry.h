// The models by architecture; each lives in the .cc that its loader is named after.
#pragma once

#include <memory>

#include "base/status.h"
#include "formats/weight_source.h"
#include "model/config.h"
#include "model/model.h"

namespace gantry {

using LoadFn = Result<std::unique_ptr<Model>> (*)(const WeightSource&, const LoadOptions&, ModelConfig);

Result<std::unique_ptr<Model>> load_dense_decoder(const WeightSource& source, const LoadOptions& options,
                                                  ModelConfig config);
Result<std::unique_ptr<Model>> load_deepseek_v3(const WeightSource& source, const LoadOptions& options,
                                                ModelConfig config);

}  // namespace gantry

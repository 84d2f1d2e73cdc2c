// The models by architecture; each lives in the .cc that its loader is named after. The source is the shard's.
#pragma once

#include <memory>

#include "base/status.h"
#include "formats/weight_source.h"
#include "model/config.h"
#include "model/model.h"
#include "model/shard.h"

namespace gantry {

using LoadFn = Result<std::unique_ptr<Model>> (*)(const WeightSource&, const LoadOptions&, ModelConfig,
                                                  Shard);

Result<std::unique_ptr<Model>> load_dense_decoder(const WeightSource& source, const LoadOptions& options,
                                                  ModelConfig config, Shard shard);
Result<std::unique_ptr<Model>> load_deepseek_v3(const WeightSource& source, const LoadOptions& options,
                                                ModelConfig config, Shard shard);

}  // namespace gantry

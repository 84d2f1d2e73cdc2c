// Small checkpoints of DeepSeek-V3's architecture with a draft module.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

#include "random_checkpoint.h"

namespace gantry::testing {

inline constexpr int32_t kDraftingVocab = 60;

nlohmann::json drafting_config(int layers, int mtp_layers);

// Of drafting_config(1, 1): a model whose draft module is nearly that model itself: it looks at the token alone, as the
// model does, so that most drafts are right, and some are not.
std::vector<RandomTensor> copying_tensors(uint64_t seed);

}  // namespace gantry::testing

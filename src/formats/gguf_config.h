// A GGUF file's metadata as Hugging Face's config.json.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "base/status.h"
#include "formats/gguf.h"
#include "text/vocab_spec.h"

namespace gantry {

// Architectures llama, qwen2 and deepseek2. Each key of the architecture is used, known to change nothing, or
// refused by name (kUnimplemented); a missing or impossible value is kDataLoss. The ids of bos and eos are
// the vocabulary's.
Result<nlohmann::json> config_from_gguf(const GgufFile& gguf, const std::optional<VocabSpec>& vocab,
                                        const std::string& file);

// general.sampling.* under generation_config.json's keys; {} where there is none.
Result<nlohmann::json> generation_config_from_gguf(const GgufFile& gguf, const std::string& file);

}  // namespace gantry

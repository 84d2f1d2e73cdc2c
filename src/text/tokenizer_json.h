// Reads a VocabSpec from the tokenizer.json and tokenizer_config.json of a Hugging Face checkpoint folder.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "base/status.h"
#include "text/vocab_spec.h"

namespace gantry {

// tokenizer: the parsed tokenizer.json (Hugging Face `tokenizers`, model type BPE over bytes).
// tokenizer_config: the parsed tokenizer_config.json, or null; a member special_tokens_map.json is not needed
// beside it. eos holds the configuration's one; generation_config.json may name more, which the caller adds.
// A normalizer, pre-tokenizer or model option that Gantry does not know is refused by name (kUnimplemented),
// a malformed file with kDataLoss.
Result<VocabSpec> vocab_from_tokenizer_json(const nlohmann::json& tokenizer,
                                            const nlohmann::json& tokenizer_config);

}  // namespace gantry

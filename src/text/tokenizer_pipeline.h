// Recognises the parts of a tokenizer.json around its model by their structure. What is not known is refused
// by name (kUnimplemented).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/status.h"
#include "text/vocab_spec.h"

namespace gantry {

// Each takes the member's value, null where the file has none.

// Whether text is normalized to NFC; the only other normalizer is none.
Result<bool> read_normalizer(const nlohmann::json& normalizer);

Result<PreTokenizer> read_pre_tokenizer(const nlohmann::json& pre_tokenizer);

// Contents of the tokens that a prompt begins and ends with; empty where there is none.
struct PromptFrame {
  std::string before;
  std::string after;
};
Result<PromptFrame> read_post_processor(const nlohmann::json& post_processor);

Status check_decoder(const nlohmann::json& decoder);

}  // namespace gantry

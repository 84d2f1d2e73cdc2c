// The tokenizer in a GGUF file's metadata.
#pragma once

#include <optional>
#include <string>

#include "base/status.h"
#include "formats/gguf.h"
#include "text/vocab_spec.h"

namespace gantry {

// Empty when the file has no tokenizer. Byte-level BPE (tokenizer.ggml.model "gpt2") alone: another model or
// pre-tokenizer is refused by name (kUnimplemented), a malformed one with kDataLoss.
Result<std::optional<VocabSpec>> vocab_from_gguf(const GgufFile& gguf, const std::string& file);

}  // namespace gantry

// Which files of a repository are pulled.
#pragma once

#include <string>
#include <vector>

#include "hub/hub_api.h"

namespace gantry::hub {

// Those that match one of the patterns, as huggingface_hub's allow_patterns match: shell wildcards whose '*' also
// takes '/', and "folder/" for all in a folder.
// Without a pattern, what Gantry reads, at the top of the repository only: safetensors (without a "consolidated"
// duplicate of them), JSON, the tokenizer's files and templates; or the one GGUF file of a repository that has no
// safetensors.
// kNotFound names what there is instead.
Result<std::vector<RemoteFile>> select_files(const std::vector<RemoteFile>& files,
                                             const std::vector<std::string>& patterns);

}  // namespace gantry::hub

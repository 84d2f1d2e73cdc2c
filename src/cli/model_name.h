// What the user may call a model: a folder, a .gguf file, or a default model's name.
#pragma once

#include <string>

#include "base/status.h"

namespace gantry::cli {

struct ResolvedModel {
  std::string path;  // folder or .gguf file
  std::string id;    // as /v1/models lists it
};

// "smollm2" is $GANTRY_MODEL_DIR/smollm2.gguf, else ~/.cache/gantry/models/smollm2.gguf. kNotFound says what
// was looked for.
Result<ResolvedModel> resolve_model(const std::string& name);

}  // namespace gantry::cli

// What the user may call a model: a folder, a .gguf file, a repository of the hub, or a default model's name.
#pragma once

#include <string>

#include "base/status.h"

namespace gantry::cli {

struct ResolvedModel {
  std::string path;  // folder or .gguf file
  std::string id;    // as /v1/models lists it
};

// The model that a bare `gantry serve` takes: it comes with the binary.
inline constexpr const char* kInstalledModel = "r1-tiny";

// "r1-tiny" is in the folder share/gantry beside the binary (or beside the folder it lies in), or in
// $GANTRY_DATA_DIR; "smollm2" is $GANTRY_MODEL_DIR/smollm2.gguf, else ~/.cache/gantry/models/smollm2.gguf.
// What is neither, nor a path that exists, is ORG/NAME or ORG/NAME@REVISION of the hub, taken from the cache: no
// network. kNotFound says what was looked for.
Result<ResolvedModel> resolve_model(const std::string& name);

// Whether resolve_model() takes the name for one of the hub.
bool is_hub_name(const std::string& name);

}  // namespace gantry::cli

// `gantry plan MODEL --measure`: the plan of this machine beside a real run.
#pragma once

#include <string>

#include "base/status.h"

namespace gantry::cli {

struct MeasureOptions {
  std::string path;         // folder or .gguf file
  std::string load_format;  // as of serve
  int max_model_len = 0;    // 0: at most 1024
  int max_num_seqs = 1;
  int max_num_batched_tokens = 0;  // 0: 512
  int threads = 0;
  bool json = false;
};

// Loads the model here, fills its KV cache with max_num_seqs sequences of max_model_len, and compares resident
// memory and speed with what was predicted. Returns the table or JSON.
Result<std::string> measure_plan(const MeasureOptions& options);

}  // namespace gantry::cli

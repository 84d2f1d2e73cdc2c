// What `gantry inspect` shows of a checkpoint.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "formats/weight_source.h"

namespace gantry {

// For people: the configuration, one line per tensor (name, type, shape, bytes), totals per type. Lines end
// in
// '\n'; names from the file are printable ASCII.
std::string describe(const WeightSource& source);

// The same for programs; names are made printable, because JSON holds no bytes that are not UTF-8:
//   {"path", "config", "generation_config",
//    "tokenizer": null or {"tokens", "merges", "added_tokens", "pre_tokenizer", "bos", "eos",
//    "chat_template"}, "tensors": [{"name", "dtype", "shape", "bytes", "file"}, ...], "totals": {"tensors",
//    "parameters", "bytes", "by_dtype": {"BF16": {"tensors", "parameters", "bytes"}}}}
nlohmann::json describe_json(const WeightSource& source);

}  // namespace gantry

// What the readers of each file format hand over, and the WeightSource made of it.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/mapped_file.h"
#include "formats/weight_source.h"

namespace gantry {

struct Checkpoint {
  std::string path;
  nlohmann::json config = nlohmann::json::object();
  nlohmann::json generation_config = nlohmann::json::object();
  std::optional<VocabSpec> vocab;
  std::vector<WeightInfo> weights;
  // What the views point into.
  std::vector<std::shared_ptr<const MappedFile>> files;
};

// In weights sorted by name; null if absent.
const WeightInfo* find_weight(const std::vector<WeightInfo>& weights, std::string_view name);

// Sorts the weights by name; refuses a name that is there twice (kDataLoss).
Result<std::unique_ptr<WeightSource>> make_weight_source(Checkpoint checkpoint);

Result<Checkpoint> read_checkpoint_folder(const std::string& path);
// Configuration and tokenizer alone.
Result<Checkpoint> read_folder_without_weights(const std::string& path);
Result<Checkpoint> read_gguf(const std::string& path);

}  // namespace gantry

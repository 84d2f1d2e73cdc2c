// What the readers of each file format hand over, and the WeightSource made of it.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/regular_file.h"
#include "formats/weight_source.h"

namespace gantry {

struct Checkpoint {
  std::string path;
  nlohmann::json config = nlohmann::json::object();
  nlohmann::json generation_config = nlohmann::json::object();
  std::optional<VocabSpec> vocab;
  std::vector<WeightInfo> weights;
  // Where the weights lie, by WeightInfo::file_index.
  std::vector<std::shared_ptr<const RegularFile>> files;
};

// All of a WeightSource but where the bytes come from.
class CheckpointSource : public WeightSource {
 public:
  const nlohmann::json& config() const override { return checkpoint_.config; }
  const nlohmann::json& generation_config() const override { return checkpoint_.generation_config; }
  const VocabSpec* vocab() const override { return checkpoint_.vocab ? &*checkpoint_.vocab : nullptr; }
  const std::string& path() const override { return checkpoint_.path; }
  const std::vector<WeightInfo>& weights() const override { return checkpoint_.weights; }
  const WeightInfo* find(std::string_view name) const override;

 protected:
  // The weights are sorted by name.
  explicit CheckpointSource(Checkpoint checkpoint) : checkpoint_(std::move(checkpoint)) {}
  const Checkpoint& checkpoint() const { return checkpoint_; }

 private:
  Checkpoint checkpoint_;
};

// Opens a file of weights and starts the disk while headers and tokenizer are parsed.
Result<std::shared_ptr<const RegularFile>> open_weight_file(const std::string& path);

// Sorts the weights by name; refuses a name that is there twice (kDataLoss).
Result<std::unique_ptr<WeightSource>> make_weight_source(Checkpoint checkpoint);

Result<Checkpoint> read_checkpoint_folder(const std::string& path);
// Configuration and tokenizer alone.
Result<Checkpoint> read_folder_without_weights(const std::string& path);
Result<Checkpoint> read_gguf(const std::string& path);

}  // namespace gantry

#include "formats/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>

#include "formats/quote_name.h"

namespace gantry {
namespace {

class CheckpointSource : public WeightSource {
 public:
  explicit CheckpointSource(Checkpoint checkpoint) : checkpoint_(std::move(checkpoint)) {}

  const nlohmann::json& config() const override { return checkpoint_.config; }
  const nlohmann::json& generation_config() const override { return checkpoint_.generation_config; }
  const VocabSpec* vocab() const override { return checkpoint_.vocab ? &*checkpoint_.vocab : nullptr; }
  const std::string& path() const override { return checkpoint_.path; }
  const std::vector<WeightInfo>& weights() const override { return checkpoint_.weights; }
  const WeightInfo* find(std::string_view name) const override {
    const auto& weights = checkpoint_.weights;
    const auto found =
        std::lower_bound(weights.begin(), weights.end(), name,
                         [](const WeightInfo& info, std::string_view n) { return info.name < n; });
    return found != weights.end() && found->name == name ? &*found : nullptr;
  }

 private:
  Checkpoint checkpoint_;
};

}  // namespace

Result<std::unique_ptr<WeightSource>> make_weight_source(Checkpoint checkpoint) {
  auto& weights = checkpoint.weights;
  std::sort(weights.begin(), weights.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  const auto twice = std::adjacent_find(weights.begin(), weights.end(),
                                        [](const auto& a, const auto& b) { return a.name == b.name; });
  if (twice != weights.end()) {
    const auto& other = *std::next(twice);
    return data_loss(fmt::format("{}: tensor {} is there twice{}", twice->file, quote_name(twice->name),
                                 twice->file == other.file ? "" : ", also in " + other.file));
  }
  return std::unique_ptr<WeightSource>(new CheckpointSource(std::move(checkpoint)));
}

}  // namespace gantry

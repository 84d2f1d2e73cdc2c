#include "formats/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/limits.h"
#include "formats/quote_name.h"

namespace gantry {
namespace {

class FileSource : public CheckpointSource {
 public:
  explicit FileSource(Checkpoint checkpoint) : CheckpointSource(std::move(checkpoint)) {}

  Status read_range(const WeightInfo& info, uint64_t offset, std::span<std::byte> out) const override {
    GANTRY_CHECK(offset <= info.view.bytes() && out.size() <= info.view.bytes() - offset) << info.name;
    if (out.empty()) return {};
    return checkpoint().files[static_cast<size_t>(info.file_index)]->read(info.offset + offset, out);
  }
  Status check_unchanged() const override {
    for (const auto& file : checkpoint().files) GANTRY_RETURN_IF_ERROR(file->check_unchanged());
    return {};
  }
};

}  // namespace

const WeightInfo* CheckpointSource::find(std::string_view name) const {
  const std::vector<WeightInfo>& weights = checkpoint_.weights;
  const auto found =
      std::lower_bound(weights.begin(), weights.end(), name,
                       [](const WeightInfo& info, std::string_view n) { return info.name < n; });
  return found != weights.end() && found->name == name ? &*found : nullptr;
}

Result<std::shared_ptr<const RegularFile>> open_weight_file(const std::string& path) {
  GANTRY_ASSIGN_OR_RETURN(std::shared_ptr<const RegularFile> file, RegularFile::open(path));
  // A file that may not fit into memory is left to the kernel's own read-ahead, which follows the loader.
  if (file->size() <= limits::kWeightReadAheadBytesMax) file->read_ahead();
  return file;
}

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
  return std::unique_ptr<WeightSource>(new FileSource(std::move(checkpoint)));
}

}  // namespace gantry

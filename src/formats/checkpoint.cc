#include "formats/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>

#include "formats/quote_name.h"

namespace gantry {
namespace {

class FileSource : public CheckpointSource {
 public:
  explicit FileSource(Checkpoint checkpoint) : CheckpointSource(std::move(checkpoint)) {}

  Status read_range(const WeightInfo& info, uint64_t offset, std::span<std::byte> out) const override {
    GANTRY_CHECK(offset <= info.view.bytes() && out.size() <= info.view.bytes() - offset) << info.name;
    if (out.empty()) return {};
    const auto* data = static_cast<const std::byte*>(info.view.data);
    const auto after = std::upper_bound(
        checkpoint().files.begin(), checkpoint().files.end(), data,
        [](const std::byte* address, const auto& file) { return address < file->bytes().data(); });
    GANTRY_CHECK(after != checkpoint().files.begin()) << info.name << " lies in no file";
    const MappedFile& file = **std::prev(after);
    return file.read(static_cast<uint64_t>(data - file.bytes().data()) + offset, out);
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
  std::sort(checkpoint.files.begin(), checkpoint.files.end(),
            [](const auto& a, const auto& b) { return a->bytes().data() < b->bytes().data(); });
  return std::unique_ptr<WeightSource>(new FileSource(std::move(checkpoint)));
}

}  // namespace gantry

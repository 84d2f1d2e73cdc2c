#include "formats/weight_source.h"

#include <sys/stat.h>

#include <cstring>

#include "formats/checkpoint.h"

namespace gantry {

uint64_t WeightSource::total_bytes() const {
  uint64_t total = 0;
  for (const WeightInfo& info : weights()) total += info.view.bytes();
  return total;
}

Status WeightSource::read_range(const WeightInfo& info, uint64_t offset, std::span<std::byte> out) const {
  std::memcpy(out.data(), static_cast<const std::byte*>(info.view.data) + offset, out.size());
  return {};
}

Status WeightSource::read(const WeightInfo& info, std::span<std::byte> out) const {
  GANTRY_CHECK(out.size() == info.view.bytes()) << info.name;
  return read_range(info, 0, out);
}

Result<std::unique_ptr<WeightSource>> open_weights(const std::string& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
    GANTRY_ASSIGN_OR_RETURN(Checkpoint checkpoint, read_checkpoint_folder(path));
    return make_weight_source(std::move(checkpoint));
  }
  if (path.ends_with(".safetensors")) {
    return invalid_argument(path + ": give the folder that holds it together with config.json");
  }
  GANTRY_ASSIGN_OR_RETURN(Checkpoint checkpoint, read_gguf(path));
  return make_weight_source(std::move(checkpoint));
}

}  // namespace gantry

#include "cli/model_name.h"

#include <cstdlib>
#include <filesystem>

namespace gantry::cli {
namespace {

constexpr const char* kDefaultModels[] = {"smollm2"};

std::filesystem::path model_dir() {
  if (const char* dir = std::getenv("GANTRY_MODEL_DIR"); dir && *dir) return dir;
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache && *cache) {
    return std::filesystem::path(cache) / "gantry/models";
  }
  const char* home = std::getenv("HOME");
  return std::filesystem::path(home ? home : ".") / ".cache/gantry/models";
}

}  // namespace

Result<ResolvedModel> resolve_model(const std::string& name) {
  std::error_code error;
  for (const char* known : kDefaultModels) {
    if (name != known) continue;
    const auto file = model_dir() / (name + ".gguf");
    if (!std::filesystem::exists(file, error)) {
      return not_found(
          "model " + name + " is not at " + file.string() +
          ": `make model` in the source tree fetches it, and GANTRY_MODEL_DIR says where it lies");
    }
    return ResolvedModel{file.string(), name};
  }
  const std::filesystem::path path(name);
  if (!std::filesystem::exists(path, error)) {
    return not_found("model " + name +
                     " does not exist: give a folder with config.json and safetensors, a .gguf file, or " +
                     kDefaultModels[0]);
  }
  auto id = std::filesystem::is_directory(path, error)
                ? std::filesystem::absolute(path / "x").parent_path().filename()
                : path.stem();
  if (id.empty()) id = path.parent_path().filename();
  return ResolvedModel{path.string(), id.string()};
}

}  // namespace gantry::cli

#include "cli/model_name.h"

#include <cstdlib>
#include <filesystem>
#include <vector>

#include "cli/hub_model.h"

namespace gantry::cli {
namespace {

constexpr const char* kFetchedModel = "smollm2";

std::filesystem::path model_dir() {
  if (const char* dir = std::getenv("GANTRY_MODEL_DIR"); dir && *dir) return dir;
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache && *cache) {
    return std::filesystem::path(cache) / "gantry/models";
  }
  const char* home = std::getenv("HOME");
  return std::filesystem::path(home ? home : ".") / ".cache/gantry/models";
}

// Where data that comes with the binary may lie, best first.
std::vector<std::filesystem::path> data_dirs() {
  if (const char* dir = std::getenv("GANTRY_DATA_DIR"); dir && *dir) return {dir};
  std::error_code error;
  const auto binary = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return {};
  const auto folder = binary.parent_path();
  return {folder / "share/gantry", folder.parent_path() / "share/gantry"};
}

Result<ResolvedModel> installed_model() {
  std::string looked;
  std::error_code error;
  for (const auto& dir : data_dirs()) {
    const auto folder = dir / kInstalledModel;
    if (std::filesystem::exists(folder / "config.json", error)) {
      return ResolvedModel{folder.string(), kInstalledModel};
    }
    looked += (looked.empty() ? "" : " or ") + folder.string();
  }
  return not_found(std::string("model ") + kInstalledModel + " is not at " + looked +
                   ": it is installed beside the binary, and GANTRY_DATA_DIR says where the folder " +
                   kInstalledModel + " lies");
}

Result<ResolvedModel> fetched_model() {
  const auto file = model_dir() / (std::string(kFetchedModel) + ".gguf");
  std::error_code error;
  if (std::filesystem::exists(file, error)) return ResolvedModel{file.string(), kFetchedModel};
  return not_found(std::string("model ") + kFetchedModel + " is not at " + file.string() +
                   ": `make model` in the source tree fetches it, and GANTRY_MODEL_DIR says where it lies");
}

Result<ResolvedModel> pulled_model(const std::string& name) {
  GANTRY_ASSIGN_OR_RETURN(const HubModel model, hub_model(name));
  GANTRY_ASSIGN_OR_RETURN(std::string path, cached_hub_model(model));
  return ResolvedModel{std::move(path), model.request.repo.id()};
}

}  // namespace

bool is_hub_name(const std::string& name) {
  std::error_code error;
  return name != kInstalledModel && name != kFetchedModel && !std::filesystem::exists(name, error) &&
         hub::parse_repo_name(name).ok();
}

Result<ResolvedModel> resolve_model(const std::string& name) {
  std::error_code error;
  if (name == kInstalledModel) return installed_model();
  if (name == kFetchedModel) return fetched_model();
  if (is_hub_name(name)) return pulled_model(name);
  const std::filesystem::path path(name);
  if (!std::filesystem::exists(path, error)) {
    return not_found("model " + name +
                     " does not exist: give a folder with config.json and safetensors, a .gguf file, " +
                     "ORG/NAME of the hub, " + kInstalledModel + " or " + kFetchedModel);
  }
  auto id = std::filesystem::is_directory(path, error)
                ? std::filesystem::absolute(path / "x").parent_path().filename()
                : path.stem();
  if (id.empty()) id = path.parent_path().filename();
  return ResolvedModel{path.string(), id.string()};
}

}  // namespace gantry::cli

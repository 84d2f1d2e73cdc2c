#include "hub/select_files.h"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <string_view>

#include "formats/quote_name.h"

namespace gantry::hub {
namespace {

constexpr size_t kNamesInMessage = 8;

bool matches(const std::string& path, std::string pattern) {
  if (pattern.ends_with('/')) pattern += '*';
  return ::fnmatch(pattern.c_str(), path.c_str(), FNM_NOESCAPE) == 0;
}

bool is_duplicate(std::string_view path) { return path.starts_with("consolidated"); }

bool is_read_by_gantry(std::string_view path) {
  constexpr std::string_view kEndings[] = {".safetensors", ".json", ".jinja", ".model"};
  constexpr std::string_view kNames[] = {"merges.txt", "vocab.txt"};
  return path.find('/') == std::string_view::npos && !is_duplicate(path) &&
         (std::any_of(std::begin(kEndings), std::end(kEndings),
                      [&](auto ending) { return path.ends_with(ending); }) ||
          std::find(std::begin(kNames), std::end(kNames), path) != std::end(kNames));
}

std::string names_of(const std::vector<RemoteFile>& files) {
  std::string text;
  for (size_t i = 0; i < files.size() && i < kNamesInMessage; ++i)
    text += (i > 0 ? ", " : "") + quote_name(files[i].path);
  if (files.size() > kNamesInMessage) text += fmt::format(" and {} more", files.size() - kNamesInMessage);
  return text;
}

std::vector<RemoteFile> those(const std::vector<RemoteFile>& files, const auto& wanted) {
  std::vector<RemoteFile> chosen;
  std::copy_if(files.begin(), files.end(), std::back_inserter(chosen), wanted);
  return chosen;
}

}  // namespace

Result<std::vector<RemoteFile>> select_files(const std::vector<RemoteFile>& files,
                                             const std::vector<std::string>& patterns) {
  if (!patterns.empty()) {
    auto chosen = those(files, [&](const RemoteFile& file) {
      return std::any_of(patterns.begin(), patterns.end(),
                         [&](const std::string& pattern) { return matches(file.path, pattern); });
    });
    if (chosen.empty()) {
      return not_found(fmt::format("no file matches {}; there are {}",
                                   quote_name(fmt::format("{}", fmt::join(patterns, " "))),
                                   files.empty() ? "none" : names_of(files)));
    }
    return chosen;
  }
  const auto safetensors = [](const RemoteFile& file) {
    return file.path.ends_with(".safetensors") && is_read_by_gantry(file.path);
  };
  if (std::any_of(files.begin(), files.end(), safetensors)) {
    return those(files, [](const RemoteFile& file) { return is_read_by_gantry(file.path); });
  }
  auto gguf = those(files, [](const RemoteFile& file) { return file.path.ends_with(".gguf"); });
  if (gguf.size() == 1) return gguf;
  if (gguf.size() > 1) {
    return not_found(fmt::format("the repository has {} GGUF files, choose one with --include: {}",
                                 gguf.size(), names_of(gguf)));
  }
  return not_found("the repository has neither safetensors nor a GGUF file; it has " +
                   (files.empty() ? "no file" : names_of(files)));
}

}  // namespace gantry::hub

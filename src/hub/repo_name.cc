#include "hub/repo_name.h"

#include <fmt/format.h>

#include <algorithm>

#include "formats/quote_name.h"
#include "hub/hub_limits.h"

namespace gantry::hub {
namespace {

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

bool is_repo_part(std::string_view part) {
  if (part.empty()) return false;
  for (const char c : part) {
    if (!is_word(c) && c != '-' && c != '.') return false;
  }
  const auto edge = [](char c) { return c == '-' || c == '.'; };
  return !edge(part.front()) && !edge(part.back()) && part.find("--") == std::string_view::npos &&
         part.find("..") == std::string_view::npos;
}

bool is_hex(std::string_view text, size_t digits) {
  return text.size() == digits && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

// Whether every part between '/' is a name that stays in its folder.
bool stays_inside(std::string_view path) {
  for (const char c : path) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '\\') return false;
  }
  size_t begin = 0;
  for (;;) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    if (part.empty() || part == "." || part == ".." || part.size() > limits::kHubPathPartBytesMax)
      return false;
    if (part.size() >= 2 && part[1] == ':') return false;
    if (end == path.size()) return true;
    begin = end + 1;
  }
}

}  // namespace

Result<RepoName> parse_repo_name(std::string_view text) {
  RepoName repo{.org = {}, .name = {}, .revision = "main"};
  const size_t at = text.find('@');
  if (at != std::string_view::npos) {
    repo.revision = text.substr(at + 1);
    GANTRY_RETURN_IF_ERROR(check_revision(repo.revision));
    text = text.substr(0, at);
  }
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos || !is_repo_part(text.substr(0, slash)) ||
      !is_repo_part(text.substr(slash + 1)) || text.size() > limits::kHubRepoNameBytesMax) {
    return invalid_argument(quote_name(text) +
                            " is no repository of the hub: write ORG/NAME, such as deepseek-ai/DeepSeek-R1");
  }
  repo.org = text.substr(0, slash);
  repo.name = text.substr(slash + 1);
  return repo;
}

Status check_revision(std::string_view revision) {
  if (revision.size() <= limits::kHubRevisionBytesMax && stays_inside(revision) &&
      revision.find("..") == std::string_view::npos &&
      revision.find_first_of(" ~^:?*[") == std::string_view::npos) {
    return {};
  }
  return invalid_argument("the revision " + quote_name(revision) +
                              " is no name of a branch, a tag or a commit, such as main or v1.0",
                          "revision");
}

Status check_file_name(std::string_view path) {
  if (path.size() <= limits::kHubFileNameBytesMax && stays_inside(path)) return {};
  return data_loss("the hub lists a file with the unsafe name " + quote_name(path) +
                   ": nothing of it is used");
}

bool is_commit(std::string_view text) { return is_hex(text, 40); }
bool is_sha256(std::string_view text) { return is_hex(text, 64); }
bool is_sha1(std::string_view text) { return is_hex(text, 40); }

}  // namespace gantry::hub

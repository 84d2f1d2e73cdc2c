// Names that lead into the file system: of repositories, revisions, files and blobs. Whoever wrote them, none
// leaves its folder.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace gantry::hub {

struct RepoName {
  std::string org;
  std::string name;
  std::string revision;  // branch, tag or commit; "main" unless one is given

  std::string id() const { return org + "/" + name; }
};

// "ORG/NAME" or "ORG/NAME@REVISION". kInvalidArgument names the part that is no such name. ORG and NAME are of
// letters, digits, '.', '_' and '-', without "--" or ".." and without '.' or '-' at either end, as the hub has
// them.
Result<RepoName> parse_repo_name(std::string_view text);

// Git's rules for a reference, as far as they keep it inside a folder.
Status check_revision(std::string_view revision);

// A path within a repository: parts between '/', none of them empty, "." or "..", without control characters,
// backslash or drive letter (huggingface_hub refuses those too). kDataLoss.
Status check_file_name(std::string_view path);

bool is_commit(std::string_view text);  // 40 lower-case hexadecimal digits
bool is_sha256(std::string_view text);  // 64
bool is_sha1(std::string_view text);    // 40

}  // namespace gantry::hub

// The two questions asked of the hub's API: which commit a revision is, and which files it has.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "hub/fetcher.h"
#include "hub/retrier.h"

namespace gantry::hub {

struct RemoteFile {
  std::string path;  // within the repository; passed check_file_name()
  std::string etag;  // the blob's name in the cache: SHA-256 of the content, or git's SHA-1 of a small file
  bool is_lfs = false;  // etag is a SHA-256
  uint64_t size = 0;    // bytes
};

// GET /api/models/ORG/NAME/revision/REVISION. A revision that is a commit already is not asked for.
Result<std::string> resolve_commit(Fetcher& fetcher, Retrier& retrier);

// GET /api/models/ORG/NAME/tree/COMMIT?recursive=true, all pages. Checked: names, sizes, hashes, no path twice,
// none that is a file and a folder.
Result<std::vector<RemoteFile>> list_files(Fetcher& fetcher, Retrier& retrier, const std::string& commit);

// Where the content of a file lies: /ORG/NAME/resolve/COMMIT/PATH.
std::string file_url(const Settings& settings, const RepoName& repo, const std::string& commit,
                     const std::string& path);

// The target of rel="next" in a Link header (RFC 8288); empty if there is none.
std::string next_link(std::string_view header);

// One page of the file list. kDataLoss names what is wrong.
Status add_tree_page(const nlohmann::json& page, std::vector<RemoteFile>& files);

}  // namespace gantry::hub

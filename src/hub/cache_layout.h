// Where huggingface_hub keeps one repository: models--ORG--NAME/{refs,blobs,snapshots} and .locks beside it. Both
// programs read and write the same folders, at the same time.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "hub/repo_name.h"

namespace gantry::hub {

class CacheLayout {
 public:
  CacheLayout(std::string cache_dir, const RepoName& repo);

  const std::string& cache_dir() const { return cache_dir_; }
  std::string blob(const std::string& etag) const;
  // What was received of a blob: Gantry's own, with a record of its ranges behind the content, and the one of
  // older huggingface_hub, which is a prefix of the content.
  std::string partial(const std::string& etag) const;
  std::string foreign_partial(const std::string& etag) const;
  std::string lock(const std::string& etag) const;
  std::string snapshot(const std::string& commit) const;
  std::string ref(const std::string& revision) const;

  // Creates blobs, this commit's snapshot folder and the locks' folder.
  Status create(const std::string& commit) const;
  // Whether a blob of that size is there. A link into the store that repositories share counts.
  bool has_blob(const std::string& etag, uint64_t size) const;
  // snapshots/COMMIT/PATH → the blob, as a relative link; replaces what is there.
  Status link(const std::string& commit, const std::string& path, const std::string& etag) const;
  bool is_linked(const std::string& commit, const std::string& path, const std::string& etag) const;
  // refs/REVISION says which commit it was when last asked. Written whole or not at all. Nothing for a commit.
  Status write_ref(const std::string& revision, const std::string& commit) const;
  // kNotFound when the revision was never pulled.
  Result<std::string> read_ref(const std::string& revision) const;

 private:
  std::string cache_dir_;
  std::string folder_name_;  // "models--ORG--NAME"
};

// "why": "cannot create": the text of errno behind it.
Status file_error(const std::string& why, const std::string& path, int error);

// mkdir -p.
Status create_folders(const std::string& path);

}  // namespace gantry::hub

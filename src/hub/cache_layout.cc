#include "hub/cache_layout.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "formats/regular_file.h"

namespace gantry::hub {
namespace {

constexpr size_t kRefBytesMax = 256;

// From snapshots/COMMIT/PATH to the blob.
std::string link_target(const std::string& path, const std::string& etag) {
  std::string target = "../../";
  for (const char c : path) target += c == '/' ? "../" : "";
  return target + "blobs/" + etag;
}

// Writes beside the target and renames, so that no reader sees a part.
Status write_whole(const std::string& path, std::string_view text) {
  std::string temporary = path + ".XXXXXX";
  const int fd = ::mkstemp(temporary.data());
  if (fd < 0) return file_error("cannot create", temporary, errno);
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  int error = written ? 0 : errno;
  if (::fchmod(fd, 0644) != 0 && error == 0) error = errno;
  ::close(fd);
  if (error == 0 && ::rename(temporary.c_str(), path.c_str()) != 0) error = errno;
  if (error == 0) return {};
  ::unlink(temporary.c_str());
  return file_error("cannot write", path, error);
}

}  // namespace

Status file_error(const std::string& why, const std::string& path, int error) {
  const std::string text = why + " " + path + ": " + std::generic_category().message(error);
  if (error == ENOSPC || error == EDQUOT) return resource_exhausted(text);
  return error == ENOENT ? not_found(text) : invalid_argument(text);
}

Status create_folders(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  return error ? file_error("cannot create the folder", path, error.value()) : Status();
}

CacheLayout::CacheLayout(std::string cache_dir, const RepoName& repo)
    : cache_dir_(std::move(cache_dir)), folder_name_("models--" + repo.org + "--" + repo.name) {}

std::string CacheLayout::blob(const std::string& etag) const {
  return fmt::format("{}/{}/blobs/{}", cache_dir_, folder_name_, etag);
}
std::string CacheLayout::partial(const std::string& etag) const { return blob(etag) + ".gantry.incomplete"; }
std::string CacheLayout::foreign_partial(const std::string& etag) const { return blob(etag) + ".incomplete"; }
std::string CacheLayout::lock(const std::string& etag) const {
  return fmt::format("{}/.locks/{}/{}.lock", cache_dir_, folder_name_, etag);
}
std::string CacheLayout::snapshot(const std::string& commit) const {
  return fmt::format("{}/{}/snapshots/{}", cache_dir_, folder_name_, commit);
}
std::string CacheLayout::ref(const std::string& revision) const {
  return fmt::format("{}/{}/refs/{}", cache_dir_, folder_name_, revision);
}

Status CacheLayout::create(const std::string& commit) const {
  GANTRY_RETURN_IF_ERROR(create_folders(fmt::format("{}/{}/blobs", cache_dir_, folder_name_)));
  GANTRY_RETURN_IF_ERROR(create_folders(fmt::format("{}/.locks/{}", cache_dir_, folder_name_)));
  return create_folders(snapshot(commit));
}

bool CacheLayout::has_blob(const std::string& etag, uint64_t size) const {
  struct stat info;
  return ::stat(blob(etag).c_str(), &info) == 0 && S_ISREG(info.st_mode) &&
         static_cast<uint64_t>(info.st_size) == size;
}

bool CacheLayout::is_linked(const std::string& commit, const std::string& path,
                            const std::string& etag) const {
  const std::string target = link_target(path, etag);
  std::string known(target.size() + 1, '\0');  // one more, so that a longer link differs
  const ssize_t length = ::readlink((snapshot(commit) + "/" + path).c_str(), known.data(), known.size());
  return length == static_cast<ssize_t>(target.size()) && known.starts_with(target);
}

Status CacheLayout::link(const std::string& commit, const std::string& path, const std::string& etag) const {
  if (is_linked(commit, path, etag)) return {};
  const std::string at = snapshot(commit) + "/" + path;
  GANTRY_RETURN_IF_ERROR(create_folders(std::filesystem::path(at).parent_path().string()));
  // Under the blob's lock, so that the name is this process's alone.
  const std::string temporary =
      fmt::format("{}/{}/blobs/{}.link.{}.incomplete", cache_dir_, folder_name_, etag, ::getpid());
  ::unlink(temporary.c_str());
  if (::symlink(link_target(path, etag).c_str(), temporary.c_str()) != 0) {
    const int error = errno;
    return file_error("cannot link (HF_HUB_CACHE must lie on a file system with symbolic links)", at, error);
  }
  if (::rename(temporary.c_str(), at.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary.c_str());
    return file_error("cannot link", at, error);
  }
  return {};
}

Status CacheLayout::write_ref(const std::string& revision, const std::string& commit) const {
  if (revision == commit) return {};
  const auto known = read_ref(revision);
  if (known.ok() && *known == commit) return {};
  GANTRY_RETURN_IF_ERROR(create_folders(std::filesystem::path(ref(revision)).parent_path().string()));
  return write_whole(ref(revision), commit);
}

Result<std::string> CacheLayout::read_ref(const std::string& revision) const {
  if (is_commit(revision)) return revision;
  if (!path_exists(ref(revision))) return not_found(ref(revision) + " does not exist");
  GANTRY_ASSIGN_OR_RETURN(std::string commit, read_file(ref(revision), kRefBytesMax));
  while (!commit.empty() && (commit.back() == '\n' || commit.back() == '\r')) commit.pop_back();
  if (!is_commit(commit)) return data_loss(ref(revision) + " holds no commit: remove it and pull again");
  return commit;
}

}  // namespace gantry::hub

#include "formats/regular_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

namespace gantry {
namespace {

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

Status system_error(const std::string& path, int error) {
  const std::string message = path + ": " + std::generic_category().message(error);
  if (error == ENOENT || error == ENOTDIR) return not_found(message);
  if (error == ENOMEM || error == EMFILE || error == ENFILE) return resource_exhausted(message);
  return invalid_argument(message);
}

std::string_view kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

Status check_regular(const std::string& path, mode_t mode) {
  if (S_ISREG(mode)) return Status();
  return invalid_argument(path + ": is " + std::string(kind_of(mode)) + ", not a regular file");
}

struct OpenFile {
  FileDescriptor fd;
  uint64_t size;
  timespec modified;
};

bool same_time(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

Result<OpenFile> open_regular(const std::string& path) {
  // Before opening, because opening some devices has effects; after it, because the path may have changed.
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) return system_error(path, errno);
  GANTRY_RETURN_IF_ERROR(check_regular(path, info.st_mode));
  FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (fd.get() < 0) return system_error(path, errno);
  if (::fstat(fd.get(), &info) != 0) return system_error(path, errno);
  GANTRY_RETURN_IF_ERROR(check_regular(path, info.st_mode));
  return OpenFile{std::move(fd), static_cast<uint64_t>(info.st_size), info.st_mtim};
}

}  // namespace

struct RegularFile::Open {
  OpenFile file;
};

RegularFile::RegularFile(std::string path, std::unique_ptr<Open> open)
    : path_(std::move(path)), open_(std::move(open)) {}

RegularFile::~RegularFile() = default;

Result<std::shared_ptr<const RegularFile>> RegularFile::open(const std::string& path) {
  GANTRY_ASSIGN_OR_RETURN(OpenFile file, open_regular(path));
  return std::shared_ptr<const RegularFile>(
      new RegularFile(path, std::make_unique<Open>(Open{std::move(file)})));
}

uint64_t RegularFile::size() const { return open_->file.size; }

void RegularFile::read_ahead() const { ::posix_fadvise(open_->file.fd.get(), 0, 0, POSIX_FADV_WILLNEED); }

Result<std::vector<std::byte>> RegularFile::head(uint64_t bytes_max) const {
  std::vector<std::byte> bytes(std::min(bytes_max, size()));
  GANTRY_RETURN_IF_ERROR(read(0, bytes));
  return bytes;
}

Status RegularFile::read(uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t got = ::pread(open_->file.fd.get(), out.data(), out.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return data_loss(path_ + ": " + std::generic_category().message(errno));
    if (got == 0) {
      return data_loss(path_ + ": ends at byte " + std::to_string(offset) + " of " + std::to_string(size()) +
                       ": it was shortened after it was opened");
    }
    out = out.subspan(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
  return {};
}

Status RegularFile::check_unchanged() const {
  struct stat info;
  if (::fstat(open_->file.fd.get(), &info) != 0) return system_error(path_, errno);
  if (static_cast<uint64_t>(info.st_size) == size() && same_time(info.st_mtim, open_->file.modified))
    return {};
  return data_loss(path_ + ": was changed by another process while it was read");
}

Result<std::string> read_file(const std::string& path, uint64_t bytes_max) {
  GANTRY_ASSIGN_OR_RETURN(const OpenFile file, open_regular(path));
  const auto too_big = [&] {
    return resource_exhausted(path + ": has more than the " + std::to_string(bytes_max) +
                              " bytes that are read of such a file");
  };
  if (file.size > bytes_max) return too_big();
  std::string content(file.size + 1, '\0');  // one more than expected, to see that the file ends
  size_t filled = 0;
  while (true) {
    const ssize_t got = ::read(file.fd.get(), content.data() + filled, content.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(path, errno);
    if (got == 0) break;
    filled += static_cast<size_t>(got);
    if (filled > bytes_max) return too_big();
    if (filled == content.size()) content.resize(content.size() * 2);
  }
  content.resize(filled);
  return content;
}

bool path_exists(const std::string& path) {
  struct stat info;
  return ::lstat(path.c_str(), &info) == 0;
}

}  // namespace gantry

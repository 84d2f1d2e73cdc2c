// Regular files, read. Nothing else is opened: a FIFO, a device or a folder is refused without blocking. Nothing
// is mapped: a mapped file that another process shortens ends this one with SIGBUS.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace gantry {

// A file that stays open: what is read is the file that was opened, whatever becomes of its name.
class RegularFile {
 public:
  // Symbolic links are followed. kNotFound, kInvalidArgument (no regular file, no permission) or
  // kResourceExhausted (too many open files).
  static Result<std::shared_ptr<const RegularFile>> open(const std::string& path);
  ~RegularFile();
  RegularFile(const RegularFile&) = delete;
  RegularFile& operator=(const RegularFile&) = delete;

  const std::string& path() const { return path_; }
  // When it was opened.
  uint64_t size() const;

  // Copies out.size() bytes at `offset` through the page cache. kDataLoss when the file ends before: it was
  // shortened, or the disk failed. Thread-safe.
  Status read(uint64_t offset, std::span<std::byte> out) const;
  // The first bytes_max bytes, or all of a file that has fewer. kDataLoss as read().
  Result<std::vector<std::byte>> head(uint64_t bytes_max) const;
  // Tells the kernel that all of the file will be read soon.
  void read_ahead() const;
  // kDataLoss when the file's size or time of modification is not what it was when it was opened.
  Status check_unchanged() const;

 private:
  struct Open;
  RegularFile(std::string path, std::unique_ptr<Open> open);

  std::string path_;
  std::unique_ptr<Open> open_;
};

// The whole content of a small regular file. kResourceExhausted when it has more than `bytes_max` bytes.
Result<std::string> read_file(const std::string& path, uint64_t bytes_max);

// Whether something exists at the path, a dangling link included: then opening it tells what is wrong.
bool path_exists(const std::string& path);

}  // namespace gantry

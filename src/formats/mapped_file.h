// Regular files, mapped and read. Nothing else is opened: a FIFO, a device or a folder is refused without
// blocking.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/status.h"

namespace gantry {

// A whole file. bytes() is for headers, right after opening: pages are read when they are touched, and a file
// that another process shortens meanwhile makes touching them fatal (SIGBUS). Data is read with read(), which
// fails with an error instead.
class MappedFile {
 public:
  // Symbolic links are followed. kNotFound, kInvalidArgument (no regular file, no permission) or
  // kResourceExhausted (no address space).
  static Result<std::shared_ptr<const MappedFile>> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  // Page-aligned; empty for an empty file.
  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(address_), size_}; }

  // Copies out.size() bytes at `offset` through the page cache. kDataLoss when the file ends before: it was
  // shortened, or the disk failed. Thread-safe.
  Status read(uint64_t offset, std::span<std::byte> out) const;
  // kDataLoss when the file's size or time of modification is not what it was when it was opened.
  Status check_unchanged() const;

 private:
  struct Open;
  MappedFile(std::string path, void* address, size_t size, std::unique_ptr<Open> open);

  std::string path_;
  void* address_;
  size_t size_;
  std::unique_ptr<Open> open_;
};

// The whole content of a small regular file. kResourceExhausted when it has more than `bytes_max` bytes.
Result<std::string> read_file(const std::string& path, uint64_t bytes_max);

// Whether something exists at the path, a dangling link included: then opening it tells what is wrong.
bool path_exists(const std::string& path);

}  // namespace gantry

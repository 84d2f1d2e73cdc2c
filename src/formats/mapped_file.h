// Regular files, mapped or read. Nothing else is opened: a FIFO, a device or a folder is refused without
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

// A whole file, mapped read-only and shared with the page cache. The pages are read when they are touched; a
// file that another process shortens meanwhile makes touching them fatal (SIGBUS).
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

 private:
  MappedFile(std::string path, void* address, size_t size)
      : path_(std::move(path)), address_(address), size_(size) {}

  std::string path_;
  void* address_;
  size_t size_;
};

// The whole content of a small regular file. kResourceExhausted when it has more than `bytes_max` bytes.
Result<std::string> read_file(const std::string& path, uint64_t bytes_max);

// Whether something exists at the path, a dangling link included: then opening it tells what is wrong.
bool path_exists(const std::string& path);

}  // namespace gantry

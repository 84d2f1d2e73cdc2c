// flock(2) on a file of its own, as python's filelock takes it: huggingface_hub and Gantry exclude each other.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "base/status.h"

namespace gantry::hub {

class FileLock {
 public:
  // Nothing when another process, or another FileLock of this one, holds it. The file is created and stays: one
  // that is removed while others wait would be locked twice.
  static Result<std::optional<FileLock>> try_lock(const std::string& path);

  FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace gantry::hub

// The hash that names a blob.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "hub/stop_signal.h"

namespace gantry::hub {

enum class BlobHash {
  kSha256,   // of the content: Git LFS
  kGitSha1,  // of "blob SIZE\0" and the content: a git blob object
};

// Lower-case hexadecimal hash of the first `size` bytes of the file. kDataLoss when it is shorter, kCancelled
// on a stop.
Result<std::string> hash_file(int fd, const std::string& path, uint64_t size, BlobHash hash,
                              const StopSignal& stop);

}  // namespace gantry::hub

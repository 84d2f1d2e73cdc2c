// Receives blobs over several connections, checks them, and puts them into the cache.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "hub/cache_layout.h"
#include "hub/settings.h"
#include "hub/stop_signal.h"

namespace gantry::hub {

// One content, which may lie at several paths of the repository.
struct Blob {
  std::string etag;
  bool is_lfs = false;
  uint64_t size = 0;
  std::vector<std::string> paths;  // at least one
};

struct DownloadOptions {
  int connections = 8;  // 1 to limits::kHubConnectionsMax
  int retries = 7;      // of one range in a row without a byte of progress; 0 to limits::kHubRetriesMax
};

struct DownloadJob {
  const Settings* settings = nullptr;
  const CacheLayout* cache = nullptr;
  RepoName repo;
  std::string commit;
  std::vector<Blob> blobs;
};

// Returns when every blob has its final name, checked by its hash, and every path of it is linked in the snapshot
// of the commit; or with the first error, when nothing of this process runs any more. A blob gets its final name
// only once its hash is right; what is incomplete stays as a partial file from which the next call goes on.
// A blob that another process downloads (it holds the lock) is waited for while others are received.
// on_progress: in the caller's thread, about ten times a second. kCancelled after a stop.
Status download(const DownloadJob& job, const DownloadOptions& options, const StopSignal& stop,
                const std::function<void(uint64_t done_bytes, uint64_t total_bytes)>& on_progress);

}  // namespace gantry::hub

#include "hub/download.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <list>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

#include "base/log.h"
#include "hub/digest.h"
#include "hub/file_lock.h"
#include "hub/hub_api.h"
#include "hub/range_receiver.h"

namespace gantry::hub {
namespace {

constexpr std::chrono::milliseconds kProgressInterval{100};
constexpr std::chrono::milliseconds kLockInterval{200};

// A blob that this process receives; it holds the lock.
struct Active {
  BlobSource source;
  std::unique_ptr<FileLock> lock;
  std::unique_ptr<PartialFile> file;
  size_t next_chunk = 0;    // those before it are given out or complete
  int receiving = 0;        // ranges under way
  bool whole = false;       // the server has no ranges
  bool to_restart = false;  // as whole, once no range is under way
  bool started_anew = false;
};

class Download {
 public:
  Download(const DownloadJob& job, const DownloadOptions& options, const StopSignal& user_stop)
      : job_(job), options_(options), user_stop_(user_stop), retrier_(options.retries, stop_) {
    for (const Blob& blob : job.blobs) {
      waiting_.push_back(&blob);
      total_bytes_ += blob.size;
    }
  }

  Status run(const std::function<void(uint64_t, uint64_t)>& on_progress) {
    std::vector<std::thread> threads;
    for (int i = 0; i < options_.connections; ++i) {
      const std::lock_guard lock(mutex_);
      try {
        threads.emplace_back([this] { work(); });
        ++running_;
      } catch (const std::system_error&) {
        if (i == 0) return resource_exhausted("no thread for a connection");
        break;  // those that run are enough
      }
    }
    {
      std::unique_lock lock(mutex_);
      while (running_ > 0) {
        changed_.wait_for(lock, kProgressInterval);
        if (user_stop_.requested()) stop_.request();
        const uint64_t done = done_bytes();
        lock.unlock();
        on_progress(done, total_bytes_);
        lock.lock();
      }
    }
    for (std::thread& thread : threads) thread.join();
    if (user_stop_.requested()) return Status(StatusCode::kCancelled, "stopped");
    return error_;
  }

 private:
  struct Work {
    const Blob* start = nullptr;  // a blob to take
    Active* active = nullptr;     // or a range of one that is taken
    size_t chunk = 0;
  };

  // The last byte of a blob counts when its content has been checked.
  uint64_t done_bytes() const {
    uint64_t sum = finished_bytes_;
    for (const Active& active : active_) {
      const uint64_t size = active.file->size();
      sum += std::min(active.file->done_bytes(), size - std::min<uint64_t>(size, 1));
    }
    return sum;
  }

  void work() {
    Fetcher fetcher(*job_.settings, job_.repo, stop_);
    while (const std::optional<Work> work = next()) {
      const Status status =
          work->start != nullptr ? start(*work->start) : receive(fetcher, *work->active, work->chunk);
      const std::lock_guard lock(mutex_);
      if (work->start != nullptr) --starting_;
      if (!status.ok() && error_.ok() && !stop_.requested()) error_ = status;
      if (!status.ok()) stop_.request();
      changed_.notify_all();
    }
    const std::lock_guard lock(mutex_);
    --running_;
    changed_.notify_all();
  }

  // Waits for something to do; nothing when all is done, or on a stop.
  std::optional<Work> next() {
    std::unique_lock lock(mutex_);
    for (;;) {
      if (stop_.requested()) return std::nullopt;
      for (Active& active : active_) {
        if (active.to_restart) continue;
        while (active.next_chunk < active.file->chunk_count() &&
               active.file->chunk(active.next_chunk).complete()) {
          ++active.next_chunk;
        }
        if (active.next_chunk == active.file->chunk_count()) continue;
        ++active.receiving;
        return Work{.start = nullptr, .active = &active, .chunk = active.next_chunk++};
      }
      if (!waiting_.empty()) {
        const Blob* blob = waiting_.front();
        waiting_.pop_front();
        ++starting_;
        return Work{.start = blob};
      }
      if (active_.empty() && starting_ == 0 && locked_elsewhere_.empty()) return std::nullopt;
      if (changed_.wait_for(lock, kLockInterval) == std::cv_status::timeout) {
        waiting_.insert(waiting_.end(), locked_elsewhere_.begin(), locked_elsewhere_.end());
        locked_elsewhere_.clear();
      }
    }
  }

  Status start(const Blob& blob) {
    GANTRY_ASSIGN_OR_RETURN(auto lock, FileLock::try_lock(job_.cache->lock(blob.etag)));
    if (!lock) {
      const std::lock_guard guard(mutex_);
      if (!told_of_lock_) log::info("waiting for {}: another process downloads it", blob.paths.front());
      told_of_lock_ = true;
      locked_elsewhere_.push_back(&blob);
      return {};
    }
    if (job_.cache->has_blob(blob.etag, blob.size)) {
      GANTRY_RETURN_IF_ERROR(link(blob));
      const std::lock_guard guard(mutex_);
      finished_bytes_ += blob.size;
      return {};
    }
    GANTRY_ASSIGN_OR_RETURN(auto file, PartialFile::open(job_.cache->partial(blob.etag),
                                                         job_.cache->foreign_partial(blob.etag), blob.size));
    Active* active = nullptr;
    {
      const std::lock_guard guard(mutex_);
      active = &active_.emplace_back();
      active->source.blob = &blob;
      active->source.hub_url = file_url(*job_.settings, job_.repo, job_.commit, blob.paths.front());
      active->source.commit = job_.commit;
      active->lock = std::make_unique<FileLock>(std::move(*lock));
      active->file = std::move(file);
      if (!active->file->complete()) return {};
      ++active->receiving;  // nobody else touches it
    }
    return close_range(*active);
  }

  Status receive(Fetcher& fetcher, Active& active, size_t chunk) {
    const auto received = receive_range(fetcher, retrier_, active.source, *active.file, chunk, active.whole);
    {
      const std::lock_guard lock(mutex_);
      if (received.ok() && *received == Received::kNoRanges) active.to_restart = true;
    }
    const Status closed = close_range(active);
    return received.ok() ? closed : received.status();
  }

  // One range less is under way. Whoever ends the last one restarts or finishes the blob.
  Status close_range(Active& active) {
    {
      const std::lock_guard lock(mutex_);
      if (--active.receiving > 0) return {};
      if (active.to_restart) {
        active.to_restart = false;
        active.whole = true;
        active.next_chunk = 0;
        return active.file->restart({.whole = true, .keep_prefix = true});
      }
      if (!active.file->complete()) return {};
      ++active.receiving;
    }
    const Result<bool> finished = finish(active);
    const std::lock_guard lock(mutex_);
    --active.receiving;
    GANTRY_RETURN_IF_ERROR(finished.status());
    if (*finished) {
      finished_bytes_ += active.source.blob->size;
      active_.remove_if([&](const Active& other) { return &other == &active; });
    }
    return {};
  }

  // Checks the content. Right: it gets its final name. Wrong: nothing of it stays, and when a part came from an
  // earlier process it is fetched once more: false.
  Result<bool> finish(Active& active) {
    const Blob& blob = *active.source.blob;
    GANTRY_ASSIGN_OR_RETURN(const std::string hash,
                            hash_file(active.file->fd(), active.file->path(), blob.size,
                                      blob.is_lfs ? BlobHash::kSha256 : BlobHash::kGitSha1, stop_));
    if (hash != blob.etag) {
      const std::string what = fmt::format("{}: its {} is {}, the hub lists {}", blob.paths.front(),
                                           blob.is_lfs ? "SHA-256" : "git SHA-1", hash, blob.etag);
      if (active.file->resumed_bytes() > 0 && !active.started_anew) {
        log::warn("{}; fetching it anew", what);
        const std::lock_guard lock(mutex_);
        active.started_anew = true;
        active.next_chunk = 0;
        GANTRY_RETURN_IF_ERROR(active.file->restart({.whole = active.whole, .keep_prefix = false}));
        return false;
      }
      ::unlink(active.file->path().c_str());
      return data_loss(what + "; what was received is removed");
    }
    GANTRY_RETURN_IF_ERROR(active.file->finish(job_.cache->blob(blob.etag)));
    GANTRY_RETURN_IF_ERROR(link(blob));
    return true;
  }

  // The blob is in the cache.
  Status link(const Blob& blob) {
    for (const std::string& path : blob.paths) {
      GANTRY_RETURN_IF_ERROR(job_.cache->link(job_.commit, path, blob.etag));
    }
    return {};
  }

  const DownloadJob& job_;
  const DownloadOptions& options_;
  const StopSignal& user_stop_;
  StopSignal stop_;  // the user's, or after the first error
  Retrier retrier_;
  uint64_t total_bytes_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<const Blob*> waiting_;
  std::vector<const Blob*> locked_elsewhere_;
  std::list<Active> active_;
  int starting_ = 0;  // threads inside start()
  int running_ = 0;   // threads
  uint64_t finished_bytes_ = 0;
  bool told_of_lock_ = false;
  Status error_;
};

}  // namespace

Status download(const DownloadJob& job, const DownloadOptions& options, const StopSignal& stop,
                const std::function<void(uint64_t, uint64_t)>& on_progress) {
  return Download(job, options, stop).run(on_progress);
}

}  // namespace gantry::hub

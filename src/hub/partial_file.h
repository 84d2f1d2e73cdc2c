// A blob while it is received: the content at its place, and behind it a record of what has come, so that a
// process that is killed at any moment leaves a file from which the next one goes on.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace gantry::hub {

// One range of the content, received in order by one thread at a time.
struct Chunk {
  uint64_t begin = 0;
  uint64_t end = 0;
  std::atomic<uint64_t> done{0};  // bytes from begin that are in the file

  uint64_t bytes() const { return end - begin; }
  bool complete() const { return done.load() == bytes(); }
};

// Layout: content[size], Header, uint64 done[chunks], in the machine's byte order: the file never leaves it. Each
// write of content comes before the record of it, so what the record counts is in the page cache at least; after
// a power cut it may not be on the disk, which the hash at the end finds.
class PartialFile {
 public:
  // Opens what an earlier process left at `path`, or takes over a prefix at `foreign_path`, or starts anew. What
  // does not fit `size` is dropped. The caller holds the blob's lock.
  static Result<std::unique_ptr<PartialFile>> open(std::string path, const std::string& foreign_path,
                                                   uint64_t size);
  ~PartialFile();
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;

  int fd() const { return fd_; }
  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }
  // Those that open() found.
  uint64_t resumed_bytes() const { return resumed_bytes_; }
  size_t chunk_count() const { return chunks_.size(); }
  const Chunk& chunk(size_t index) const { return *chunks_[index]; }
  bool complete() const;
  uint64_t done_bytes() const;

  // Appends to a chunk. kInvalidArgument beyond its end; kResourceExhausted when the disk is full.
  Status write(size_t index, std::string_view bytes);
  struct Restart {
    bool whole = false;        // one chunk for the whole content, for servers without ranges
    bool keep_prefix = false;  // what has come of the first bytes without a gap stays; only with `whole`
  };
  // Divides the content anew and forgets what has come. No other thread uses the file.
  Status restart(const Restart& how);
  // Gives the content its final name, with the permissions of a new file. The content was checked.
  Status finish(const std::string& final_path);

 private:
  PartialFile(std::string path, int fd, uint64_t size) : path_(std::move(path)), fd_(fd), size_(size) {}
  void make_chunks(uint64_t chunk_bytes);
  bool load();
  Status save();
  Status write_at(uint64_t offset, const void* data, size_t bytes);

  std::string path_;
  int fd_;
  uint64_t size_;
  uint64_t chunk_bytes_ = 0;
  uint64_t resumed_bytes_ = 0;
  std::vector<std::unique_ptr<Chunk>> chunks_;
};

// What is recorded in the file at `path` without opening it for writing: the bytes that a resumed download has
// not to fetch. 0 when there is nothing of use.
uint64_t resumable_bytes(const std::string& path, const std::string& foreign_path, uint64_t size);

}  // namespace gantry::hub

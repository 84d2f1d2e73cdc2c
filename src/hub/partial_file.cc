#include "hub/partial_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "hub/cache_layout.h"
#include "hub/hub_limits.h"

namespace gantry::hub {
namespace {

struct Header {
  char magic[8];
  uint64_t size;
  uint64_t chunk_bytes;
  uint64_t chunk_count;
};
constexpr char kMagic[8] = {'G', 'N', 'T', 'R', 'Y', 'P', 'F', '1'};

// About 16 chunks, so that several connections end together, but not so small that requests dominate.
uint64_t chunk_bytes_for(uint64_t size) {
  constexpr uint64_t kMib = 1 << 20;
  const uint64_t sixteenth = (size / 16 + kMib - 1) / kMib * kMib;
  return std::clamp(sixteenth, limits::kHubChunkBytesMin, limits::kHubChunkBytesMax);
}

// Of a server without ranges: one chunk, or none of an empty content.
uint64_t whole_chunk(uint64_t size) { return std::max<uint64_t>(size, 1); }

uint64_t count_for(uint64_t size, uint64_t chunk_bytes) {
  return size / chunk_bytes + (size % chunk_bytes == 0 ? 0 : 1);
}

bool read_at(int fd, uint64_t offset, void* data, size_t bytes) {
  return ::pread(fd, data, bytes, static_cast<off_t>(offset)) == static_cast<ssize_t>(bytes);
}

// The record behind `size` bytes of content; empty chunk list when there is none that fits.
struct Record {
  uint64_t chunk_bytes = 0;
  std::vector<uint64_t> done;
};

Record read_record(int fd, uint64_t size) {
  struct stat info;
  Header header;
  if (::fstat(fd, &info) != 0 || !read_at(fd, size, &header, sizeof(header)) ||
      std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0 || header.size != size ||
      (header.chunk_bytes != chunk_bytes_for(size) && header.chunk_bytes != whole_chunk(size)) ||
      header.chunk_count != count_for(size, header.chunk_bytes)) {
    return {};
  }
  Record record{.chunk_bytes = header.chunk_bytes, .done = std::vector<uint64_t>(header.chunk_count)};
  const size_t bytes = record.done.size() * sizeof(uint64_t);
  if (static_cast<uint64_t>(info.st_size) != size + sizeof(header) + bytes ||
      !read_at(fd, size + sizeof(header), record.done.data(), bytes)) {
    return {};
  }
  for (size_t i = 0; i < record.done.size(); ++i) {
    if (record.done[i] > std::min(header.chunk_bytes, size - i * header.chunk_bytes)) return {};
  }
  return record;
}

}  // namespace

Result<std::unique_ptr<PartialFile>> PartialFile::open(std::string path, const std::string& foreign_path,
                                                       uint64_t size) {
  struct stat info;
  if (::lstat(path.c_str(), &info) != 0 && ::lstat(foreign_path.c_str(), &info) == 0 &&
      S_ISREG(info.st_mode)) {
    if (::rename(foreign_path.c_str(), path.c_str()) != 0)
      return file_error("cannot rename", foreign_path, errno);
  }
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (fd < 0) return file_error("cannot create", path, errno);
  std::unique_ptr<PartialFile> file(new PartialFile(std::move(path), fd, size));
  if (file->load()) {
    file->resumed_bytes_ = file->done_bytes();
    return file;
  }
  GANTRY_RETURN_IF_ERROR(file->save());
  file->resumed_bytes_ = file->done_bytes();
  return file;
}

PartialFile::~PartialFile() { ::close(fd_); }

void PartialFile::make_chunks(uint64_t chunk_bytes) {
  chunk_bytes_ = chunk_bytes;
  chunks_.clear();
  for (uint64_t begin = 0; begin < size_; begin += chunk_bytes_) {
    chunks_.push_back(std::make_unique<Chunk>());
    chunks_.back()->begin = begin;
    chunks_.back()->end = begin + std::min(chunk_bytes_, size_ - begin);
  }
}

// True when the record in the file fits. Otherwise chunks are made, and the bytes of a file without a record that
// is no longer than the content count as its prefix.
bool PartialFile::load() {
  const Record record = read_record(fd_, size_);
  make_chunks(record.chunk_bytes > 0 ? record.chunk_bytes : chunk_bytes_for(size_));
  if (record.chunk_bytes > 0) {
    for (size_t i = 0; i < chunks_.size(); ++i) chunks_[i]->done.store(record.done[i]);
    return true;
  }
  struct stat info;
  const uint64_t found = ::fstat(fd_, &info) == 0 ? static_cast<uint64_t>(info.st_size) : 0;
  for (const auto& chunk : chunks_) {
    if (found <= size_ && found > chunk->begin) chunk->done.store(std::min(found, chunk->end) - chunk->begin);
  }
  return false;
}

// Writes the whole record. The content stays.
Status PartialFile::save() {
  const uint64_t bytes = size_ + sizeof(Header) + chunks_.size() * sizeof(uint64_t);
  // Cut first: a record of other chunks must not be taken for this one.
  if (::ftruncate(fd_, static_cast<off_t>(std::min(size_, done_bytes()))) != 0 ||
      ::ftruncate(fd_, static_cast<off_t>(bytes)) != 0) {
    return file_error("cannot make room in", path_, errno);
  }
  std::vector<uint64_t> done;
  for (const auto& chunk : chunks_) done.push_back(chunk->done.load());
  GANTRY_RETURN_IF_ERROR(write_at(size_ + sizeof(Header), done.data(), done.size() * sizeof(uint64_t)));
  Header header{.magic = {}, .size = size_, .chunk_bytes = chunk_bytes_, .chunk_count = chunks_.size()};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  return write_at(size_, &header, sizeof(header));
}

Status PartialFile::write_at(uint64_t offset, const void* data, size_t bytes) {
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::pwrite(fd_, from, bytes, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return file_error("cannot write", path_, errno);
    from += written;
    offset += static_cast<uint64_t>(written);
    bytes -= static_cast<size_t>(written);
  }
  return {};
}

bool PartialFile::complete() const {
  return std::all_of(chunks_.begin(), chunks_.end(), [](const auto& chunk) { return chunk->complete(); });
}

uint64_t PartialFile::done_bytes() const {
  uint64_t sum = 0;
  for (const auto& chunk : chunks_) sum += chunk->done.load();
  return sum;
}

Status PartialFile::write(size_t index, std::string_view bytes) {
  Chunk& chunk = *chunks_[index];
  const uint64_t done = chunk.done.load();
  if (bytes.size() > chunk.bytes() - done) return invalid_argument(path_ + ": more bytes than the range has");
  GANTRY_RETURN_IF_ERROR(write_at(chunk.begin + done, bytes.data(), bytes.size()));
  const uint64_t now = done + bytes.size();
  chunk.done.store(now);
  return write_at(size_ + sizeof(Header) + index * sizeof(uint64_t), &now, sizeof(now));
}

Status PartialFile::restart(const Restart& how) {
  uint64_t prefix = 0;
  for (const auto& chunk : chunks_) {
    if (!how.whole || !how.keep_prefix) break;
    prefix += chunk->done.load();
    if (!chunk->complete()) break;
  }
  make_chunks(how.whole ? whole_chunk(size_) : chunk_bytes_for(size_));
  if (!chunks_.empty()) chunks_[0]->done.store(prefix);
  resumed_bytes_ = std::min(resumed_bytes_, prefix);
  return save();
}

Status PartialFile::finish(const std::string& final_path) {
  if (::ftruncate(fd_, static_cast<off_t>(size_)) != 0 || ::fsync(fd_) != 0) {
    return file_error("cannot write", path_, errno);
  }
  if (::rename(path_.c_str(), final_path.c_str()) != 0) return file_error("cannot rename", path_, errno);
  return {};
}

uint64_t resumable_bytes(const std::string& path, const std::string& foreign_path, uint64_t size) {
  for (const std::string& name : {path, foreign_path}) {
    const int fd = ::open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) continue;
    uint64_t sum = 0;
    for (const uint64_t done : read_record(fd, size).done) sum += done;
    struct stat info;
    if (sum == 0 && ::fstat(fd, &info) == 0 && static_cast<uint64_t>(info.st_size) <= size) {
      sum = static_cast<uint64_t>(info.st_size);
    }
    ::close(fd);
    return sum;
  }
  return 0;
}

}  // namespace gantry::hub

#include "comm/shm/segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <string>

namespace gantry::shm {
namespace {

constexpr uint64_t kMagic = 0x31'6d'68'73'79'72'74'67;  // "gtryshm1"
constexpr size_t kPage = 4096;

size_t whole_pages(size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

size_t slots_offset() { return whole_pages(sizeof(Header)); }
size_t channels_offset(size_t ranks) { return slots_offset() + ranks * 2 * kChunkBytes; }
size_t channel_slots_offset(size_t ranks) {
  return channels_offset(ranks) + whole_pages(ranks * ranks * sizeof(Channel));
}

Status system_error(const char* what) {
  return resource_exhausted(std::string(what) + " of shared memory failed: " + std::strerror(errno));
}

}  // namespace

// Pages are the kernel's once touched: a pair of ranks that exchanges nothing costs none.
size_t Segment::bytes_for(int ranks) {
  const auto n = static_cast<size_t>(ranks);
  return channel_slots_offset(n) + n * n * 2 * kChunkBytes;
}

Result<std::unique_ptr<Segment>> Segment::create(int ranks) {
  if (ranks < 1 || ranks > kRanksMax) {
    return invalid_argument("a group of " + std::to_string(ranks) + " ranks, it must be 1 to " +
                            std::to_string(kRanksMax));
  }
  const int fd = memfd_create("gantry-ranks", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return system_error("creation");
  const size_t bytes = bytes_for(ranks);
  // Sealed, so that no rank can shrink it under another.
  if (ftruncate(fd, static_cast<off_t>(bytes)) != 0 ||
      fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    const Status status = system_error("sizing");
    close(fd);
    return status;
  }
  void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) {
    const Status status = system_error("mapping");
    close(fd);
    return status;
  }
  std::unique_ptr<Segment> segment(new Segment(fd, static_cast<std::byte*>(base), bytes));
  auto* header = new (base) Header{};
  header->ranks = static_cast<uint32_t>(ranks);
  for (int from = 0; from < ranks; ++from) {
    for (int to = 0; to < ranks; ++to) new (&segment->channel(from, to)) Channel{};
  }
  header->magic = kMagic;
  return segment;
}

Result<std::unique_ptr<Segment>> Segment::attach(int fd) {
  struct stat info{};
  if (fstat(fd, &info) != 0) return system_error("opening");
  const auto bytes = static_cast<size_t>(info.st_size);
  const auto foreign = [] { return data_loss("the descriptor is no shared memory of a group of ranks"); };
  if (bytes < sizeof(Header)) return foreign();
  const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (own < 0) return system_error("opening");
  void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, own, 0);
  if (base == MAP_FAILED) {
    const Status status = system_error("mapping");
    close(own);
    return status;
  }
  std::unique_ptr<Segment> segment(new Segment(own, static_cast<std::byte*>(base), bytes));
  const Header& header = segment->header();
  if (header.magic != kMagic || header.ranks < 1 || header.ranks > kRanksMax ||
      bytes != bytes_for(static_cast<int>(header.ranks))) {
    return foreign();
  }
  return segment;
}

Segment::~Segment() {
  munmap(base_, bytes_);
  close(fd_);
}

std::byte* Segment::slot(int rank, uint32_t parity) const {
  return base_ + slots_offset() + (static_cast<size_t>(rank) * 2 + parity) * kChunkBytes;
}

Channel& Segment::channel(int from, int to) const {
  auto* channels = reinterpret_cast<Channel*>(base_ + channels_offset(static_cast<size_t>(ranks())));
  return channels[pair(from, to)];
}

std::byte* Segment::channel_slot(int from, int to, uint32_t parity) const {
  return base_ + channel_slots_offset(static_cast<size_t>(ranks())) +
         (pair(from, to) * 2 + parity) * kChunkBytes;
}

}  // namespace gantry::shm

// The memory that the ranks of one host share: a memfd, made by their parent and inherited by descriptor, so
// that it has no name, needs no cleaning up, and dies with its last user.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/status.h"
#include "comm/shm/futex.h"

namespace gantry::shm {

inline constexpr int kRanksMax = 64;
inline constexpr size_t kChunkBytes = 64u << 10;  // of one exchange; longer data goes in several
inline constexpr size_t kReasonBytesMax = 200;
inline constexpr int kMaker = kRanksMax;  // who made the segment, among the states

// A counter that one rank advances and others wait for, on a cache line of its own.
struct alignas(64) Counter {
  Word value{0};
  Word sleepers{0};
};

// What a rank shows to all others.
struct alignas(64) RankState {
  Word pid{0};                               // 0 until the rank has attached
  std::array<char, kReasonBytesMax> reason;  // of the rank's abort(), whole before the rank may win `aborted`
  Counter arrived;                           // exchanges that the rank's data lies ready for
};

// One direction between two ranks: chunk i lies in slot i % 2.
struct alignas(64) Channel {
  Counter sent;
  Counter taken;
};

struct Header {
  uint64_t magic;
  uint32_t ranks;
  Word aborted{0};  // 1 + the rank whose reason stands, or 0
  std::array<RankState, kRanksMax + 1> states;
};

class Segment {
 public:
  // A new segment for 1 .. kRanksMax ranks.
  static Result<std::unique_ptr<Segment>> create(int ranks);
  // Maps a segment by a descriptor of it (which stays the caller's). kDataLoss if it is none.
  static Result<std::unique_ptr<Segment>> attach(int fd);
  ~Segment();
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  // Not inherited by exec until its close-on-exec flag is cleared.
  int fd() const { return fd_; }
  int ranks() const { return static_cast<int>(header().ranks); }
  Header& header() const { return *reinterpret_cast<Header*>(base_); }
  // Where `rank` puts its chunk of an even (0) or odd (1) exchange, kChunkBytes.
  std::byte* slot(int rank, uint32_t parity) const;
  Channel& channel(int from, int to) const;
  std::byte* channel_slot(int from, int to, uint32_t parity) const;

 private:
  Segment(int fd, std::byte* base, size_t bytes) : fd_(fd), base_(base), bytes_(bytes) {}
  static size_t bytes_for(int ranks);
  size_t pair(int from, int to) const { return static_cast<size_t>(from * ranks() + to); }

  int fd_ = -1;
  std::byte* base_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace gantry::shm

// Who holds which KV block: ids and reference counts, no memory. A block that a micro-batch in flight still
// touches is not handed out again before that ticket retires.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/ids.h"

namespace gantry {

// Not thread-safe: the scheduler's.
//
// A free block that holds something worth finding again belongs to the owner who used it last. Who has less than an
// equal share of the free blocks loses none to those who have more.
class BlockPool {
 public:
  using Owner = uint64_t;
  static constexpr Owner kNobody = 0;  // the block holds nothing of use

  explicit BlockPool(int32_t blocks);

  int32_t total() const { return static_cast<int32_t>(entries_.size()); }
  int32_t available() const { return available_; }       // what allocate() can give
  int32_t used() const { return total() - available_; }  // referenced, or waiting for a ticket

  // A block with one reference: nobody's, else the one that has been free for longest of those whose owner has an equal
  // share or more. Empty when none is available. Whatever the block held is lost: the caller takes it out of the
  // prefix index.
  std::optional<BlockId> allocate();
  // One more reference; a block without any (a prefix hit) is taken out of the free list.
  void retain(BlockId block);
  // One reference less. `last` is the newest ticket through which this holder touched the block, 0 for none;
  // without references the block is free once that and every other holder's last ticket has retired.
  void release(BlockId block, Ticket last, Owner owner = kNobody);
  // Tickets up to and including this one are done, on every rank. Tickets retire in order.
  void retire(Ticket ticket);

  // Free blocks that other owners who were here lately should keep while `owner` starts something: of each at most half
  // an equal share of all blocks.
  int32_t kept_for_others(Owner owner) const;

  // Without references, but not yet free: what retire() will bring.
  int32_t returning() const;

  int32_t references(BlockId block) const { return entry(block).references; }
  bool is_free(BlockId block) const { return entry(block).place == Place::kFree; }

  // Counts everything again; empty if consistent, else what is wrong. For tests.
  std::string audit() const;

 private:
  enum class Place : uint8_t { kFree, kHeld, kLimbo };
  struct Entry {
    int32_t references = 0;
    Place place = Place::kFree;
    Ticket busy_until;  // newest ticket of all who released it
    Owner owner = kNobody;
    int64_t freed_at = 0;  // in releases
    int32_t previous = kNone;
    int32_t next = kNone;  // in the free list, oldest first
  };
  static constexpr int32_t kNone = -1;
  // Oldest first.
  struct FreeList {
    int32_t oldest = kNone;
    int32_t newest = kNone;
    int32_t count = 0;
  };
  // An owner whose newest free block is older than this many times the pool has gone.
  static constexpr int64_t kTurnsRemembered = 4;

  Entry& entry(BlockId block) { return entries_[static_cast<size_t>(block.value)]; }
  const Entry& entry(BlockId block) const { return entries_[static_cast<size_t>(block.value)]; }
  void push_free(BlockId block);
  FreeList& richest_oldest();
  std::string audit_list(Owner owner, const FreeList& list) const;
  void unlink_free(BlockId block);

  std::vector<Entry> entries_;
  std::vector<BlockId>
      limbo_;  // without references, or taken again since; at most what tickets in flight touch
  FreeList nobodys_;
  std::unordered_map<Owner, FreeList> owned_;  // none is empty
  int32_t available_ = 0;
  int64_t frees_ = 0;
  Ticket retired_;
};

}  // namespace gantry

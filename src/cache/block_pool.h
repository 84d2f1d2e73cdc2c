// Who holds which KV block: ids and reference counts, no memory. A block that a micro-batch in flight still
// touches is not handed out again before that ticket retires.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "cache/block_owners.h"

namespace gantry {

// Not thread-safe: the scheduler's.
//
// A block belongs to the owner who took it or used it last. Who has fewer blocks than another loses none while that one
// has a free one.
class BlockPool {
 public:
  using Owner = BlockOwners::Owner;
  static constexpr Owner kNobody = BlockOwners::kNobody;  // the block holds nothing of use

  explicit BlockPool(int32_t blocks);

  int32_t total() const { return static_cast<int32_t>(entries_.size()); }
  int32_t available() const { return owners_.available(); }  // what allocate() can give
  int32_t used() const { return total() - available(); }     // referenced, or waiting for a ticket

  // A block with one reference, as BlockOwners::next_free() chooses. Empty when none is available. Whatever the block
  // held is lost: the caller takes it out of the prefix index.
  std::optional<BlockId> allocate(Owner owner = kNobody);
  // One more reference; a block without any (a prefix hit) is taken out of the free list.
  void retain(BlockId block);
  // One reference less. `last` is the newest ticket through which this holder touched the block, 0 for none;
  // without references the block is free once that and every other holder's last ticket has retired.
  void release(BlockId block, Ticket last, Owner owner = kNobody);
  // Tickets up to and including this one are done, on every rank. Tickets retire in order.
  void retire(Ticket ticket);

  int32_t kept_for_others(Owner owner) const { return owners_.kept_for_others(owner); }

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
  };

  Entry& entry(BlockId block) { return entries_[static_cast<size_t>(block.value)]; }
  const Entry& entry(BlockId block) const { return entries_[static_cast<size_t>(block.value)]; }
  void set_free(BlockId block);

  std::vector<Entry> entries_;
  // Without references, or taken again since; at most what tickets in flight touch.
  std::vector<BlockId> limbo_;
  BlockOwners owners_;
  Ticket retired_;
};

}  // namespace gantry

// Which tenant each KV block belongs to, which blocks are free, and whose is given up first. Sized once: no call
// allocates, and none looks at every owner.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/ids.h"

namespace gantry {

// Not thread-safe: BlockPool's.
class BlockOwners {
 public:
  using Owner = uint64_t;
  static constexpr Owner kNobody = 0;  // the block holds nothing of use

  // All are nobody's, and free.
  explicit BlockOwners(int32_t blocks);

  int32_t available() const { return available_; }
  // The block, which is not free, belongs to this owner from now on.
  void give(BlockId block, Owner owner);
  // The block becomes free, or stops being it. It stays its owner's.
  void set_free(BlockId block);
  void set_held(BlockId block);
  // The free block to use next: nobody's, else one of the owner who has most blocks, held ones included, of those who
  // have a free one; of these the one that has been free for longest. At least one is available.
  BlockId next_free() const;
  // Free blocks that `owner` leaves to others when it starts something: theirs who freed some lately, together at most
  // half of their equal shares of all blocks.
  int32_t kept_for_others(Owner owner) const;

  bool is_free(BlockId block) const { return links_[static_cast<size_t>(block.value)].free; }
  // Counts everything again; empty if consistent, else what is wrong. For tests.
  std::string audit() const;

 private:
  static constexpr int32_t kNone = -1;
  static constexpr int32_t kNobodysSlot = 0;
  // An owner that has freed nothing while this many times all blocks were freed has gone.
  static constexpr int64_t kTurnsRemembered = 4;

  struct Link {
    int32_t slot = kNobodysSlot;
    int32_t previous = kNone;  // in its owner's list of free blocks, oldest first
    int32_t next = kNone;
    int64_t freed_at = 0;  // in blocks freed since the start
    bool free = false;
  };
  // Of an owner with at least one block, or kNobody.
  struct Slot {
    Owner owner = kNobody;
    int32_t blocks = 0;
    int32_t free = 0;
    int32_t oldest = kNone;
    int32_t newest = kNone;
    int64_t last_freed_at = 0;
    bool recent = false;     // freed some lately
    int32_t before = kNone;  // of the recent ones, by last_freed_at
    int32_t after = kNone;
    int32_t heap_at = kNone;
    int32_t next = kNone;  // of the same bucket, or unused
  };

  Link& link(int32_t block) { return links_[static_cast<size_t>(block)]; }
  const Link& link(int32_t block) const { return links_[static_cast<size_t>(block)]; }
  Slot& at(int32_t slot) { return slots_[static_cast<size_t>(slot)]; }
  const Slot& at(int32_t slot) const { return slots_[static_cast<size_t>(slot)]; }
  size_t bucket(Owner owner) const { return owner & (buckets_.size() - 1); }
  int32_t find(Owner owner) const;
  int32_t find_or_add(Owner owner);
  void remove(int32_t slot);
  void add_recent(int32_t slot);
  void remove_recent(int32_t slot);
  void forget_gone();
  // The heap of owners with free blocks: who gives up the next one is first.
  bool gives_before(int32_t a, int32_t b) const;
  void place(size_t index, int32_t slot);
  void update_heap(int32_t slot);
  std::string audit_list(const Slot& slot) const;

  std::vector<Link> links_;       // by block
  std::vector<Slot> slots_;       // [blocks + 1], the first is kNobody's
  std::vector<int32_t> buckets_;  // first slot by the owner's low bits; a power of two
  std::vector<int32_t> heap_;     // slots
  int32_t unused_ = kNone;
  int32_t available_ = 0;
  int64_t frees_ = 0;
  int32_t recent_first_ = kNone;
  int32_t recent_last_ = kNone;
  int32_t recent_ = 0;       // owners
  int32_t recent_free_ = 0;  // their free blocks
};

}  // namespace gantry

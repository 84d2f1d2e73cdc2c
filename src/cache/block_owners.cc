#include "cache/block_owners.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "base/check.h"

namespace gantry {

BlockOwners::BlockOwners(int32_t blocks) {
  GANTRY_CHECK(blocks >= 0);
  const auto n = static_cast<size_t>(blocks);
  links_.resize(n);
  slots_.resize(n + 1);
  buckets_.resize(std::bit_ceil(n + 1), kNone);
  heap_.reserve(n);
  for (int32_t slot = blocks; slot > kNobodysSlot; --slot) at(slot).next = std::exchange(unused_, slot);
  at(kNobodysSlot).blocks = blocks;
  for (int32_t block = 0; block < blocks; ++block) set_free(BlockId{block});
}

int32_t BlockOwners::find(Owner owner) const {
  if (owner == kNobody) return kNobodysSlot;
  int32_t slot = buckets_[bucket(owner)];
  while (slot != kNone && at(slot).owner != owner) slot = at(slot).next;
  return slot;
}

int32_t BlockOwners::find_or_add(Owner owner) {
  if (const int32_t slot = find(owner); slot != kNone) return slot;
  const int32_t slot = unused_;
  unused_ = at(slot).next;
  at(slot) = {};
  at(slot).owner = owner;
  at(slot).next = std::exchange(buckets_[bucket(owner)], slot);
  return slot;
}

void BlockOwners::remove(int32_t slot) {
  if (at(slot).recent) remove_recent(slot);
  int32_t* link = &buckets_[bucket(at(slot).owner)];
  while (*link != slot) link = &at(*link).next;
  *link = at(slot).next;
  at(slot).next = std::exchange(unused_, slot);
}

void BlockOwners::give(BlockId block, Owner owner) {
  Link& l = link(block.value);
  GANTRY_CHECK(!l.free);
  if (at(l.slot).owner == owner) return;
  const int32_t from = l.slot;
  // First the block leaves: there are never more owners than blocks.
  if (--at(from).blocks == 0 && from != kNobodysSlot) remove(from);
  l.slot = find_or_add(owner);
  ++at(l.slot).blocks;
  update_heap(from);
  update_heap(l.slot);
}

void BlockOwners::set_free(BlockId block) {
  Link& l = link(block.value);
  Slot& s = at(l.slot);
  l.free = true;
  l.freed_at = ++frees_;
  forget_gone();
  if (s.recent) remove_recent(l.slot);
  l.previous = s.newest;
  l.next = kNone;
  (s.newest == kNone ? s.oldest : link(s.newest).next) = block.value;
  s.newest = block.value;
  ++s.free;
  ++available_;
  if (l.slot == kNobodysSlot) return;
  s.last_freed_at = frees_;
  add_recent(l.slot);
  update_heap(l.slot);
}

void BlockOwners::set_held(BlockId block) {
  Link& l = link(block.value);
  Slot& s = at(l.slot);
  l.free = false;
  (l.previous == kNone ? s.oldest : link(l.previous).next) = l.next;
  (l.next == kNone ? s.newest : link(l.next).previous) = l.previous;
  --s.free;
  --available_;
  if (s.recent) --recent_free_;
  update_heap(l.slot);
}

BlockId BlockOwners::next_free() const {
  const int32_t slot = at(kNobodysSlot).free > 0 ? kNobodysSlot : heap_.front();
  return BlockId{at(slot).oldest};
}

int32_t BlockOwners::kept_for_others(Owner owner) const {
  const int32_t slot = find(owner);
  const bool counted = slot != kNone && at(slot).recent;
  const int64_t others = recent_ - (counted ? 1 : 0);
  const int32_t free = recent_free_ - (counted ? at(slot).free : 0);
  const int64_t half_of_shares = static_cast<int64_t>(links_.size()) * others / (2 * (others + 1));
  return static_cast<int32_t>(std::min<int64_t>(free, half_of_shares));
}

void BlockOwners::add_recent(int32_t slot) {
  Slot& s = at(slot);
  s.recent = true;
  s.before = recent_last_;
  s.after = kNone;
  (recent_last_ == kNone ? recent_first_ : at(recent_last_).after) = slot;
  recent_last_ = slot;
  ++recent_;
  recent_free_ += s.free;
}

void BlockOwners::remove_recent(int32_t slot) {
  Slot& s = at(slot);
  s.recent = false;
  (s.before == kNone ? recent_first_ : at(s.before).after) = s.after;
  (s.after == kNone ? recent_last_ : at(s.after).before) = s.before;
  --recent_;
  recent_free_ -= s.free;
}

void BlockOwners::forget_gone() {
  const int64_t remembered = kTurnsRemembered * static_cast<int64_t>(links_.size());
  while (recent_first_ != kNone && frees_ - at(recent_first_).last_freed_at > remembered) {
    remove_recent(recent_first_);
  }
}

bool BlockOwners::gives_before(int32_t a, int32_t b) const {
  const Slot& x = at(a);
  const Slot& y = at(b);
  return x.blocks != y.blocks ? x.blocks > y.blocks : link(x.oldest).freed_at < link(y.oldest).freed_at;
}

void BlockOwners::place(size_t index, int32_t slot) {
  heap_[index] = slot;
  at(slot).heap_at = static_cast<int32_t>(index);
}

void BlockOwners::update_heap(int32_t slot) {
  if (slot == kNobodysSlot) return;
  int32_t moved = slot;
  size_t index = 0;
  if (at(slot).free == 0) {
    if (at(slot).heap_at == kNone) return;
    index = static_cast<size_t>(std::exchange(at(slot).heap_at, kNone));
    moved = heap_.back();
    heap_.pop_back();
    if (moved == slot) return;
  } else if (at(slot).heap_at == kNone) {
    index = heap_.size();
    heap_.push_back(slot);
  } else {
    index = static_cast<size_t>(at(slot).heap_at);
  }
  for (; index > 0 && gives_before(moved, heap_[(index - 1) / 2]); index = (index - 1) / 2) {
    place(index, heap_[(index - 1) / 2]);
  }
  for (size_t child = 2 * index + 1; child < heap_.size(); child = 2 * index + 1) {
    if (child + 1 < heap_.size() && gives_before(heap_[child + 1], heap_[child])) ++child;
    if (!gives_before(heap_[child], moved)) break;
    place(index, heap_[child]);
    index = child;
  }
  place(index, moved);
}

std::string BlockOwners::audit_list(const Slot& slot) const {
  int32_t free = 0;
  int32_t previous = kNone;
  for (int32_t i = slot.oldest; i != kNone; i = link(i).next) {
    const Link& l = link(i);
    if (!l.free) return fmt::format("block {} is in a list of free ones but held", i);
    if (l.previous != previous) return fmt::format("block {} has a broken link", i);
    if (&at(l.slot) != &slot) return fmt::format("block {} is in another owner's list", i);
    previous = i;
    if (++free > static_cast<int32_t>(links_.size())) return "the free list is a ring";
  }
  if (free != slot.free || previous != slot.newest) {
    return fmt::format("{} blocks of an owner are free, {} are counted", free, slot.free);
  }
  return {};
}

std::string BlockOwners::audit() const {
  int32_t free = 0;
  int32_t blocks = 0;
  int32_t recent = 0;
  int32_t recent_free = 0;
  size_t with_free = 0;
  for (const Slot& slot : slots_) {
    const bool nobodys = &slot == slots_.data();
    if (slot.blocks == 0 && !nobodys) continue;
    if (std::string wrong = audit_list(slot); !wrong.empty()) return wrong;
    blocks += slot.blocks;
    free += slot.free;
    recent += slot.recent ? 1 : 0;
    recent_free += slot.recent ? slot.free : 0;
    with_free += !nobodys && slot.free > 0 ? 1 : 0;
  }
  const auto free_again =
      static_cast<int32_t>(std::count_if(links_.begin(), links_.end(), [](const Link& l) { return l.free; }));
  if (free != available_ || free_again != available_) {
    return fmt::format("{} blocks are free, {} in lists, {} are counted", free_again, free, available_);
  }
  if (blocks != static_cast<int32_t>(links_.size())) return "a block has no owner, or two";
  if (recent != recent_ || recent_free != recent_free_) return "the recent owners are miscounted";
  if (with_free != heap_.size()) return "an owner with free blocks is not in the heap";
  for (size_t i = 1; i < heap_.size(); ++i) {
    if (gives_before(heap_[i], heap_[(i - 1) / 2])) return "an owner gives up blocks out of turn";
  }
  return {};
}

}  // namespace gantry

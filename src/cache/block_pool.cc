#include "cache/block_pool.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"

namespace gantry {

BlockPool::BlockPool(int32_t blocks) {
  GANTRY_CHECK(blocks >= 0);
  entries_.resize(static_cast<size_t>(blocks));
  limbo_.reserve(static_cast<size_t>(blocks));
  for (int32_t i = 0; i < blocks; ++i) push_free(BlockId{i});
}

void BlockPool::push_free(BlockId block) {
  Entry& e = entry(block);
  e.place = Place::kFree;
  e.previous = newest_;
  e.next = kNone;
  (newest_ == kNone ? oldest_ : entries_[static_cast<size_t>(newest_)].next) = block.value;
  newest_ = block.value;
  ++available_;
}

void BlockPool::unlink_free(BlockId block) {
  Entry& e = entry(block);
  (e.previous == kNone ? oldest_ : entries_[static_cast<size_t>(e.previous)].next) = e.next;
  (e.next == kNone ? newest_ : entries_[static_cast<size_t>(e.next)].previous) = e.previous;
  --available_;
}

std::optional<BlockId> BlockPool::allocate() {
  if (oldest_ == kNone) return std::nullopt;
  const BlockId block{oldest_};
  retain(block);
  return block;
}

void BlockPool::retain(BlockId block) {
  Entry& e = entry(block);
  if (e.place == Place::kFree) {
    unlink_free(block);
    e.place = Place::kHeld;
  }
  ++e.references;  // a block in limbo stays listed there until its ticket retires
}

void BlockPool::release(BlockId block, Ticket last) {
  Entry& e = entry(block);
  GANTRY_CHECK(e.references > 0) << "block " << block.value << " is released once too often";
  if (last > e.busy_until) e.busy_until = last;
  if (--e.references > 0) return;
  if (e.busy_until <= retired_) {
    // Listed in limbo and taken again: retire() settles it there.
    if (e.place == Place::kHeld) push_free(block);
  } else if (e.place == Place::kHeld) {
    e.place = Place::kLimbo;
    limbo_.push_back(block);
  }
}

void BlockPool::retire(Ticket ticket) {
  GANTRY_CHECK(ticket >= retired_) << "ticket " << ticket.value << " retires after " << retired_.value;
  retired_ = ticket;
  size_t kept = 0;
  for (const BlockId block : limbo_) {
    Entry& e = entry(block);
    if (e.references > 0) {
      e.place = Place::kHeld;
    } else if (e.busy_until <= retired_) {
      push_free(block);
    } else {
      limbo_[kept++] = block;
    }
  }
  limbo_.resize(kept);
}

int32_t BlockPool::returning() const {
  return static_cast<int32_t>(std::count_if(limbo_.begin(), limbo_.end(),
                                            [&](BlockId block) { return entry(block).references == 0; }));
}

std::string BlockPool::audit() const {
  int32_t free = 0;
  int32_t previous = kNone;
  for (int32_t i = oldest_; i != kNone; i = entries_[static_cast<size_t>(i)].next) {
    const Entry& e = entries_[static_cast<size_t>(i)];
    if (e.place != Place::kFree || e.references != 0) return fmt::format("block {} is free but held", i);
    if (e.previous != previous) return fmt::format("block {} has a broken link", i);
    if (e.busy_until > retired_) return fmt::format("block {} is free before its ticket retired", i);
    previous = i;
    if (++free > total()) return "the free list is a ring";
  }
  if (free != available_) return fmt::format("{} blocks are free, {} are counted", free, available_);
  int32_t held = 0;
  for (const Entry& e : entries_) held += e.place == Place::kHeld && e.references > 0 ? 1 : 0;
  if (free + held + static_cast<int32_t>(limbo_.size()) != total()) {
    return fmt::format("{} free + {} held + {} in limbo are not {}", free, held, limbo_.size(), total());
  }
  return {};
}

}  // namespace gantry

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
  FreeList& list = e.owner == kNobody ? nobodys_ : owned_[e.owner];
  e.place = Place::kFree;
  e.freed_at = ++frees_;
  e.previous = list.newest;
  e.next = kNone;
  (list.newest == kNone ? list.oldest : entries_[static_cast<size_t>(list.newest)].next) = block.value;
  list.newest = block.value;
  ++list.count;
  ++available_;
}

void BlockPool::unlink_free(BlockId block) {
  Entry& e = entry(block);
  FreeList& list = e.owner == kNobody ? nobodys_ : owned_[e.owner];
  (e.previous == kNone ? list.oldest : entries_[static_cast<size_t>(e.previous)].next) = e.next;
  (e.next == kNone ? list.newest : entries_[static_cast<size_t>(e.next)].previous) = e.previous;
  --available_;
  if (--list.count == 0 && e.owner != kNobody) owned_.erase(e.owner);
}

BlockPool::FreeList& BlockPool::richest_oldest() {
  const auto owners = static_cast<int64_t>(owned_.size());
  FreeList* found = nullptr;
  int64_t freed_at = 0;
  for (auto& [owner, list] : owned_) {
    if (list.count * owners < available_) continue;
    const int64_t oldest = entries_[static_cast<size_t>(list.oldest)].freed_at;
    if (found == nullptr || oldest < freed_at) {
      found = &list;
      freed_at = oldest;
    }
  }
  return *found;  // the richest has at least the mean
}

std::optional<BlockId> BlockPool::allocate() {
  if (available_ == 0) return std::nullopt;
  const BlockId block{nobodys_.count > 0 ? nobodys_.oldest : richest_oldest().oldest};
  retain(block);
  return block;
}

int32_t BlockPool::kept_for_others(Owner owner) const {
  const auto owners = static_cast<int32_t>(owned_.size() + (owned_.contains(owner) ? 0 : 1));
  const int32_t most = total() / (2 * owners);
  int32_t kept = 0;
  for (const auto& [other, list] : owned_) {
    const bool gone =
        frees_ - entries_[static_cast<size_t>(list.newest)].freed_at > kTurnsRemembered * total();
    if (other != owner && !gone) kept += std::min(list.count, most);
  }
  return kept;
}

void BlockPool::retain(BlockId block) {
  Entry& e = entry(block);
  if (e.place == Place::kFree) {
    unlink_free(block);
    e.place = Place::kHeld;
  }
  ++e.references;  // a block in limbo stays listed there until its ticket retires
}

void BlockPool::release(BlockId block, Ticket last, Owner owner) {
  Entry& e = entry(block);
  GANTRY_CHECK(e.references > 0) << "block " << block.value << " is released once too often";
  if (last > e.busy_until) e.busy_until = last;
  e.owner = owner;
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

std::string BlockPool::audit_list(Owner owner, const FreeList& list) const {
  int32_t free = 0;
  int32_t previous = kNone;
  for (int32_t i = list.oldest; i != kNone; i = entries_[static_cast<size_t>(i)].next) {
    const Entry& e = entries_[static_cast<size_t>(i)];
    if (e.place != Place::kFree || e.references != 0) return fmt::format("block {} is free but held", i);
    if (e.previous != previous) return fmt::format("block {} has a broken link", i);
    if (e.busy_until > retired_) return fmt::format("block {} is free before its ticket retired", i);
    if (e.owner != owner) return fmt::format("block {} is in another owner's list", i);
    previous = i;
    if (++free > total()) return "the free list is a ring";
  }
  if (free != list.count)
    return fmt::format("{} blocks of an owner are free, {} are counted", free, list.count);
  return {};
}

std::string BlockPool::audit() const {
  if (std::string wrong = audit_list(kNobody, nobodys_); !wrong.empty()) return wrong;
  int32_t free = nobodys_.count;
  for (const auto& [owner, list] : owned_) {
    if (std::string wrong = audit_list(owner, list); !wrong.empty()) return wrong;
    free += list.count;
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

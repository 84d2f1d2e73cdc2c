#include "cache/block_pool.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"

namespace gantry {

BlockPool::BlockPool(int32_t blocks) : owners_(blocks) {
  entries_.resize(static_cast<size_t>(blocks));
  limbo_.reserve(static_cast<size_t>(blocks));
}

void BlockPool::set_free(BlockId block) {
  entry(block).place = Place::kFree;
  owners_.set_free(block);
}

std::optional<BlockId> BlockPool::allocate(Owner owner) {
  if (available() == 0) return std::nullopt;
  const BlockId block = owners_.next_free();
  retain(block);
  owners_.give(block, owner);
  return block;
}

void BlockPool::retain(BlockId block) {
  Entry& e = entry(block);
  if (e.place == Place::kFree) {
    owners_.set_held(block);
    e.place = Place::kHeld;
  }
  ++e.references;  // a block in limbo stays listed there until its ticket retires
}

void BlockPool::release(BlockId block, Ticket last, Owner owner) {
  Entry& e = entry(block);
  GANTRY_CHECK(e.references > 0) << "block " << block.value << " is released once too often";
  if (last > e.busy_until) e.busy_until = last;
  owners_.give(block, owner);
  if (--e.references > 0) return;
  if (e.busy_until <= retired_) {
    // Listed in limbo and taken again: retire() settles it there.
    if (e.place == Place::kHeld) set_free(block);
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
      set_free(block);
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
  if (std::string wrong = owners_.audit(); !wrong.empty()) return wrong;
  int32_t free = 0;
  int32_t held = 0;
  for (size_t i = 0; i < entries_.size(); ++i) {
    const Entry& e = entries_[i];
    const bool is_free = e.place == Place::kFree;
    if (is_free != owners_.is_free(BlockId{static_cast<int32_t>(i)}) || (is_free && e.references != 0)) {
      return fmt::format("block {} is free but held", i);
    }
    if (is_free && e.busy_until > retired_)
      return fmt::format("block {} is free before its ticket retired", i);
    free += is_free ? 1 : 0;
    held += e.place == Place::kHeld && e.references > 0 ? 1 : 0;
  }
  if (free + held + static_cast<int32_t>(limbo_.size()) != total()) {
    return fmt::format("{} free + {} held + {} in limbo are not {}", free, held, limbo_.size(), total());
  }
  return {};
}

}  // namespace gantry

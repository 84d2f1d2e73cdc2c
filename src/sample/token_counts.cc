#include "sample/token_counts.h"

#include <bit>

namespace gantry {
namespace {

size_t slot_of(TokenId id, size_t slots) {
  return (static_cast<uint32_t>(id) * 0x9E3779B1u) & (slots - 1);  // Knuth's multiplicative hash
}

}  // namespace

void TokenCounts::reserve(size_t tokens) {
  entries_.reserve(tokens);
  const size_t slots = std::bit_ceil(2 * tokens + 2);
  if (slots > slots_.size()) rehash(slots);
}

void TokenCounts::rehash(size_t slots) {
  slots_.assign(slots, -1);
  for (size_t i = 0; i < entries_.size(); ++i) {
    size_t at = slot_of(entries_[i].id, slots);
    while (slots_[at] >= 0) at = (at + 1) & (slots - 1);
    slots_[at] = static_cast<int32_t>(i);
  }
}

TokenCounts::Entry& TokenCounts::entry(TokenId id) {
  if (2 * (entries_.size() + 1) > slots_.size()) reserve(2 * entries_.size() + 8);
  size_t at = slot_of(id, slots_.size());
  while (slots_[at] >= 0) {
    Entry& found = entries_[static_cast<size_t>(slots_[at])];
    if (found.id == id) return found;
    at = (at + 1) & (slots_.size() - 1);
  }
  slots_[at] = static_cast<int32_t>(entries_.size());
  return entries_.emplace_back(Entry{id, 0});
}

}  // namespace gantry

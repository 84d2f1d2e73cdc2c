#include "cache/prefix_index.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>

namespace gantry {
namespace {

BlockHash hash_of(std::span<const std::byte> bytes, uint64_t seed) {
  const XXH128_hash_t hash = XXH3_128bits_withSeed(bytes.data(), bytes.size(), seed);
  return {hash.low64, hash.high64};
}

}  // namespace

PrefixIndex::PrefixIndex(int32_t blocks, uint64_t seed) : seed_(seed), entries_(static_cast<size_t>(blocks)) {
  by_hash_.reserve(entries_.size());
}

BlockHash PrefixIndex::root(std::string_view salt) const {
  return hash_of(std::as_bytes(std::span(salt)), seed_);
}

BlockHash PrefixIndex::chain(const BlockHash& parent, BlockTokens tokens) const {
  struct {
    BlockHash parent;
    std::array<TokenId, limits::kKvBlockTokens> tokens;
  } link;
  static_assert(sizeof(link) == sizeof(BlockHash) + sizeof(TokenId) * limits::kKvBlockTokens);
  link.parent = parent;
  std::copy(tokens.begin(), tokens.end(), link.tokens.begin());
  return hash_of(std::as_bytes(std::span(&link, 1)), seed_);
}

std::optional<BlockId> PrefixIndex::find(const BlockHash& hash, const BlockHash& parent,
                                         BlockTokens tokens) const {
  const auto it = by_hash_.find(hash);
  if (it == by_hash_.end()) return std::nullopt;
  const Entry& entry = entries_[static_cast<size_t>(it->second.value)];
  if (entry.parent != parent || !std::equal(tokens.begin(), tokens.end(), entry.tokens.begin())) {
    return std::nullopt;
  }
  return it->second;
}

bool PrefixIndex::publish(const BlockHash& hash, const BlockHash& parent, BlockTokens tokens, BlockId block) {
  if (!by_hash_.try_emplace(hash, block).second) return false;
  Entry& entry = entries_[static_cast<size_t>(block.value)];
  entry.hash = hash;
  entry.parent = parent;
  std::copy(tokens.begin(), tokens.end(), entry.tokens.begin());
  entry.published = true;
  return true;
}

void PrefixIndex::forget(BlockId block) {
  Entry& entry = entries_[static_cast<size_t>(block.value)];
  if (!entry.published) return;
  entry.published = false;
  by_hash_.erase(entry.hash);
}

}  // namespace gantry

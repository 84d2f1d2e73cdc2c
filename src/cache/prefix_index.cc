#include "cache/prefix_index.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <utility>

namespace gantry {
namespace {

BlockHash hash_of(std::span<const std::byte> bytes, uint64_t seed) {
  const XXH128_hash_t hash = XXH3_128bits_withSeed(bytes.data(), bytes.size(), seed);
  return {hash.low64, hash.high64};
}

}  // namespace

PrefixIndex::PrefixIndex(int32_t blocks, uint64_t seed)
    : seed_(seed),
      entries_(static_cast<size_t>(blocks)),
      buckets_(std::bit_ceil(static_cast<size_t>(blocks) + 1), kNone) {}

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

int32_t PrefixIndex::lookup(const BlockHash& hash) const {
  int32_t block = buckets_[bucket(hash)];
  while (block != kNone && entries_[static_cast<size_t>(block)].hash != hash) {
    block = entries_[static_cast<size_t>(block)].next;
  }
  return block;
}

std::optional<BlockId> PrefixIndex::find(const BlockHash& hash, const BlockHash& parent,
                                         BlockTokens tokens) const {
  const int32_t block = lookup(hash);
  if (block == kNone) return std::nullopt;
  const Entry& entry = entries_[static_cast<size_t>(block)];
  if (entry.parent != parent || !std::equal(tokens.begin(), tokens.end(), entry.tokens.begin())) {
    return std::nullopt;
  }
  return BlockId{block};
}

bool PrefixIndex::publish(const BlockHash& hash, const BlockHash& parent, BlockTokens tokens, BlockId block) {
  if (lookup(hash) != kNone) return false;
  Entry& entry = entries_[static_cast<size_t>(block.value)];
  entry.hash = hash;
  entry.parent = parent;
  std::copy(tokens.begin(), tokens.end(), entry.tokens.begin());
  entry.published = true;
  entry.next = std::exchange(buckets_[bucket(hash)], block.value);
  ++size_;
  return true;
}

void PrefixIndex::forget(BlockId block) {
  Entry& entry = entries_[static_cast<size_t>(block.value)];
  if (!entry.published) return;
  entry.published = false;
  int32_t* link = &buckets_[bucket(entry.hash)];
  while (*link != block.value) link = &entries_[static_cast<size_t>(*link)].next;
  *link = entry.next;
  --size_;
}

}  // namespace gantry

// Finds full KV blocks by what they hold: a chain of hashes over whole blocks, rooted in the tenant's salt
// (vLLM's scheme, arXiv 2309.06180 section 4.3 for the sharing of blocks).
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/limits.h"

namespace gantry {

struct BlockHash {
  uint64_t low = 0;
  uint64_t high = 0;
  bool operator==(const BlockHash&) const = default;
};

// Not thread-safe: the scheduler's. Sized once: no call allocates.
class PrefixIndex {
 public:
  using BlockTokens = std::span<const TokenId, limits::kKvBlockTokens>;

  // `seed` differs from process to process, so that nobody can make two prefixes collide.
  PrefixIndex(int32_t blocks, uint64_t seed);

  // Prefixes under different salts never meet.
  BlockHash root(std::string_view salt) const;
  BlockHash chain(const BlockHash& parent, BlockTokens tokens) const;

  // The block that holds `tokens` after the prefix of `parent`; `hash` is their chain(). The tokens are
  // compared, so that a collision within a chain is a miss.
  std::optional<BlockId> find(const BlockHash& hash, const BlockHash& parent, BlockTokens tokens) const;
  // The block is full and will not change. False, and no change, if another block holds the same already.
  bool publish(const BlockHash& hash, const BlockHash& parent, BlockTokens tokens, BlockId block);
  // The block is about to be overwritten.
  void forget(BlockId block);
  // The block can be found.
  bool holds(BlockId block) const { return entries_[static_cast<size_t>(block.value)].published; }
  size_t size() const { return size_; }

 private:
  static constexpr int32_t kNone = -1;
  struct Entry {
    BlockHash hash;
    BlockHash parent;
    std::array<TokenId, limits::kKvBlockTokens> tokens{};
    int32_t next = kNone;  // block of the same bucket
    bool published = false;
  };
  size_t bucket(const BlockHash& hash) const { return hash.low & (buckets_.size() - 1); }
  int32_t lookup(const BlockHash& hash) const;

  uint64_t seed_;
  std::vector<Entry> entries_;    // by block
  std::vector<int32_t> buckets_;  // first block by the hash's low bits; a power of two
  size_t size_ = 0;
};

}  // namespace gantry
